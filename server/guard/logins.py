"""Failed logins are slowed down, and nobody can lock the owner out by failing on purpose (ASVS 6.1.1, 6.3.1).

Each try is counted before the password is looked at, so that parallel tries can't overtake the count; one that succeeds is
given back. Which counters a try meets depends on whether it comes from somebody who has been there before:

* on a device that the account knows (:mod:`server.guard.devices`): that device's own counter;
* from an address at which this account has logged in since the start, with the password it has now: the counter of that
  account at that address;
* from a stranger: that counter, the address's own over all accounts, and the account's over all strangers.

So strangers use up what strangers have, and nothing of the owner's. An account that does not exist is counted alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog

from machine.errors import CredentialInvalid
from machine.limits import Charge
from server.clock import Clock
from server.guard.accounts import fold_email
from server.guard.addresses import limit_key
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


class Trial(msgspec.Struct, frozen=True):
    """One counted try. ``known``: it comes from where this account has logged in before."""

    known: bool


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
        # By account. Only who knows a password gets in here, so nobody else can push it out.
        self._places: dict[str, _Places] = {}

    @contextmanager
    def trial(self, email: str, client: Client) -> Iterator[Trial]:
        """Count a try at the account of ``email``; the body raises CredentialInvalid when it failed.

        Raises:
            RateLimited: there were too many; the body was not run.
        """
        account, place = fold_email(email), limit_key(client.address)
        charges, known = self._charge(account, place, client.device)
        try:
            yield Trial(known)
        except CredentialInvalid:
            # No address of an account in the log; the same account has the same name there, whatever it is called.
            name = self._pseudonyms.of_email(email)
            _log.warning("login.failed", method="password", account=name, address=client.address, known=known)
            raise
        except BaseException:
            self._give_back(charges)
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

    def _charge(self, account: str, place: str, nonce: str | None) -> tuple[list[tuple[Gate, Charge]], bool]:
        """Count the try where it belongs, and whether that is among those the account knows."""
        pair = f"place\n{account}\n{place}"
        if nonce is not None:
            device = f"device\n{account}\n{nonce}"
            if not self._of_client.wait_ms(device):
                return [(self._of_client, self._of_client.take(device))], True
            # A device that has failed too often is a stranger like any other.
        elif account in self._places and place in self._places[account].addresses:
            return [(self._of_client, self._of_client.take(pair))], True
        wanted = [(self._of_client, pair), (self._of_address, place), (self._of_account, account)]
        for gate, key in wanted:
            wait_ms = gate.wait_ms(key)
            if wait_ms:
                gate.refuse(wait_ms)
        return [(gate, gate.take(key)) for gate, key in wanted], False

    @staticmethod
    def _give_back(charges: list[tuple[Gate, Charge]]) -> None:
        for gate, charge in charges:
            gate.give_back(charge)
