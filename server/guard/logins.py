"""Failed logins are slowed down, and nobody can lock the owner out by failing on purpose (ASVS 6.1.1, 6.3.1).

Each try is counted before the password is looked at, so that parallel tries can't overtake the count; one that succeeds is
given back. On a device that the account knows (:mod:`server.guard.devices`) a try meets that device's own counter. Any other
try meets three: that of the account at this address, the address's over all accounts, and the account's over all strangers.
So strangers use up what strangers have, and nothing of the owner's.

An account that does not exist is counted alike. And it is answered alike: where the address or the account has used its
counter up, the password is looked at all the same if this account has logged in at this address since the start, with the
password it has now; but only the right one makes a difference. A wrong one gets the refusal that everybody else gets, and no
later: a hash that takes longer than the shortest delay of a refusal is not waited for.
Otherwise somebody at a shared address could tell by the answers who else has an account and logs in there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog

from machine.errors import CredentialInvalid, Overloaded, RateLimited
from machine.limits import Charge
from server.clock import Clock
from server.guard.addresses import limit_key
from server.guard.emails import fold_email
from server.guard.hash_queue import Requester
from server.guard.limits import Gate
from server.guard.pseudonyms import Pseudonyms
from server.settings import Settings
from server.surface.accounts import Account

_log = structlog.get_logger("interlock.security")

_PLACES_PER_ACCOUNT: Final = 8
_ACCOUNTS: Final = 50_000


class Client(msgspec.Struct, frozen=True):
    """Who tries: the address, and what tells the device apart, if it is one that the account knows."""

    address: str
    device: str | None = None


class _Places(msgspec.Struct):
    """Addresses from which an account has logged in with the password that it was given at ``set_at_ms``."""

    set_at_ms: int
    addresses: dict[str, None]


class Logins:
    """Counts tries to log in."""

    def __init__(self, settings: Settings, clock: Clock, salt: bytes, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._of_address = Gate("login", "address", settings.limit_login_address, clock, salt)
        self._of_client = Gate("login", "client", settings.limit_login_client, clock, salt)
        self._of_account = Gate("login", "account", settings.limit_login_account, clock, salt)
        # Nobody sees this one in an answer: it bounds what is looked at behind a refusal.
        self._of_place = Gate("login", "place", settings.limit_login_client, clock, salt)
        # By account. Only who knows a password gets in here, so nobody else can push it out.
        self._places: dict[str, _Places] = {}

    @contextmanager
    def trial(self, email: str, client: Client) -> Iterator[Requester]:
        """Count a try at the account of ``email``; the body raises CredentialInvalid when it failed.

        Gives for whom the password is hashed. Where that is ``hidden``, the body raises TimeoutError before the time shows.

        Raises:
            RateLimited: there were too many; the body was not run, or failed.
        """
        requester = Requester(fold_email(email), limit_key(client.address))
        charges, refusal = self._charge_device(requester.account, client.device), None
        is_place = self._is_place(requester.account, requester.address)
        if charges:
            requester = msgspec.structs.replace(requester, known=True)
        else:
            charges, refusal = self._charge_stranger(requester.account, requester.address, is_place=is_place)
            requester = msgspec.structs.replace(requester, hidden=refusal is not None)
        try:
            yield requester
        except CredentialInvalid:
            # No address of an account in the log; the same account has the same name there, whatever it is called.
            name = self._pseudonyms.of_email(email)
            known = requester.known or is_place
            _log.warning("login.failed", method="password", account=name, address=client.address, known=known)
            if refusal is not None:
                raise refusal() from None
            raise
        except BaseException as error:
            self._give_back(charges)
            if refusal is not None and isinstance(error, Overloaded | RateLimited | TimeoutError):
                raise refusal() from None
            raise
        self._give_back(charges)

    def remember(self, account: Account, address: str) -> None:
        """The password that ``account`` has was shown from ``address``. Where only an older one was shown is forgotten.

        Else whoever has known a password could go on guessing the next one from each place they have been to.
        """
        email, set_at_ms = account.email or "", account.password_changed_at_ms
        places = self._places.pop(email, None)
        if places is None or places.set_at_ms < set_at_ms:
            places = _Places(set_at_ms, {})
        self._places[email] = places
        # Unless it was shown just before another one was set, by somebody else.
        if places.set_at_ms == set_at_ms:
            place = limit_key(address)
            places.addresses.pop(place, None)
            places.addresses[place] = None
            if len(places.addresses) > _PLACES_PER_ACCOUNT:
                del places.addresses[next(iter(places.addresses))]
        if len(self._places) > _ACCOUNTS:
            del self._places[next(iter(self._places))]

    def _charge_device(self, account: str, nonce: str | None) -> list[tuple[Gate, Charge]]:
        """Count a try on a known device. Nothing is counted if it is none, or has failed too often: then it is a stranger."""
        device = f"device\n{account}\n{nonce}"
        if nonce is None or self._of_client.wait_ms(device):
            return []
        return [(self._of_client, self._of_client.take(device))]

    def _is_place(self, account: str, address: str) -> bool:
        places = self._places.get(account)
        return places is not None and address in places.addresses

    def _charge_stranger(
        self, account: str, address: str, *, is_place: bool
    ) -> tuple[list[tuple[Gate, Charge]], Callable[[], RateLimited] | None]:
        """Count any other try. Where strangers are refused, also what makes the refusal of a wrong password.

        Raises:
            RateLimited: the password is not looked at.
        """
        pair = f"place\n{account}\n{address}"
        wanted = [(self._of_client, pair), (self._of_address, address), (self._of_account, account)]
        spent = [(gate, wait_ms) for gate, key in wanted if (wait_ms := gate.wait_ms(key))]
        behind = [(self._of_place, pair)] if is_place and not self._of_place.wait_ms(pair) else []
        if not spent:
            return [(gate, gate.take(key)) for gate, key in wanted + behind], None
        first, wait_ms = spent[0]
        if first is self._of_client or not behind:
            raise first.refusal(wait_ms)
        return [(gate, gate.take(key)) for gate, key in behind], functools.partial(first.refusal, wait_ms)

    @staticmethod
    def _give_back(charges: list[tuple[Gate, Charge]]) -> None:
        for gate, charge in charges:
            gate.give_back(charge)
