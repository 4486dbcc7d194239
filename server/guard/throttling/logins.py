"""Failed logins are slowed down, and nobody can lock the owner out by failing on purpose (ASVS 6.1.1, 6.3.1).

Each try is counted when its hash begins, so that parallel tries can't overtake the count, and none is refused for others that
still wait; one that succeeds is given back. On a device that the account knows
(:mod:`interlock.server.guard.throttling.devices`) a try meets that device's own counter. Any other try meets three: that of the
account at this address, the address's over all accounts, and the account's over all strangers. So strangers use up what
strangers have, and nothing of the owner's.

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
from typing import Final, TypeAlias

import msgspec
import structlog

from interlock.machine.errors import CredentialInvalid, Overloaded, RateLimited
from interlock.server.clock import Clock
from interlock.server.guard.emails import fold_email
from interlock.server.guard.passwords.hash_queue import Ended, Requester
from interlock.server.guard.throttling.limits import Gate
from interlock.server.guard.throttling.pseudonyms import Pseudonyms
from interlock.server.settings import Settings
from interlock.server.surface.accounts import Owner
from interlock.server.system.addresses import limit_key

_log = structlog.get_logger("interlock.security")

_PLACES_PER_ACCOUNT: Final = 8
_ACCOUNTS: Final = 50_000

_Wait: TypeAlias = Callable[[Gate, str], int]

_Wanted: TypeAlias = tuple[list[tuple[Gate, str]], Callable[[], RateLimited] | None]
"""Counters with the key of each, and what makes the refusal of a wrong password, if it is not told."""


class Client(msgspec.Struct, frozen=True):
    """Who tries: the address, and what tells the device apart, if it is one that the account knows."""

    address: str
    device: str | None = None


class Trial:
    """A try to log in. ``requester``: for whom the password is hashed. ``wanted`` tells which counters it meets."""

    def __init__(self, requester: Requester, wanted: Callable[[_Wait, bool], _Wanted]) -> None:
        self.requester = requester
        self._wanted = wanted
        self._refusal: Callable[[], RateLimited] | None = None

    @property
    def hidden(self) -> bool:
        """Whether a wrong password is answered like a try that is refused unseen: then the time of the hash must not show."""
        return self._refusal is not None

    def is_refused(self) -> bool:
        """Whether it is refused unseen, whatever those under way come to."""
        return not self._look(Gate.settled_wait_ms)

    def count(self) -> Ended:
        """Count the try: see :data:`interlock.server.guard.passwords.hash_queue.Count`. It may become hidden by this."""
        wanted = self._look(Gate.wait_ms)
        if not wanted:
            # How long to wait is for the refusal to say: see Logins.trial.
            raise RateLimited(0)
        ends = [gate.begin(key) for gate, key in wanted]

        def end(*, counts: bool) -> None:
            for each in ends:
                each(counts=counts)

        return end

    def _look(self, wait: _Wait) -> list[tuple[Gate, str]]:
        wanted, refusal = self._wanted(wait, self.hidden)
        self._refusal = self._refusal or refusal
        return wanted

    def refused(self, error: Exception) -> Exception:
        """Return what is raised in place of ``error``, also to be logged: the refusal of a try that is hidden."""
        return error if self._refusal is None else self._refusal()


class _Places(msgspec.Struct):
    """Addresses from which an account has logged in with the password that it was given at ``set_at_ms``."""

    set_at_ms: int
    addresses: dict[str, None]


class LoginLimits:
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
    def trial(self, email: str, client: Client) -> Iterator[Trial]:
        """A try at the account of ``email``; the body counts it as its hash begins, and raises CredentialInvalid if it failed.

        Where it is ``hidden``, the body raises TimeoutError before the time shows.

        Raises:
            RateLimited: there were too many; the body was not run, or failed.
        """
        requester = Requester(fold_email(email), limit_key(client.address))
        if self._device(requester, client.device, Gate.settled_wait_ms):
            requester = msgspec.structs.replace(requester, known=True)
        trial = Trial(requester, functools.partial(self._wanted, requester, client.device))
        if trial.is_refused():
            raise trial.refused(RateLimited(0))
        try:
            yield trial
        except CredentialInvalid as error:
            # No address of an account in the log; the same account has the same name there, whatever it is called.
            name = self._pseudonyms.of_email(email)
            known = requester.known or self._is_place(requester)
            _log.warning("login.failed", method="password", account=name, address=client.address, known=known)
            raise trial.refused(error) from None
        except (Overloaded, RateLimited, TimeoutError) as error:
            raise trial.refused(error) from None

    def remember(self, owner: Owner, address: str) -> None:
        """The password that ``owner`` has was shown from ``address``. Where only an older one was shown is forgotten.

        Else whoever has known a password could go on guessing the next one from each place they have been to.
        """
        email, set_at_ms = owner.data.email or "", owner.account.password_changed_at_ms
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

    def forget(self, email: str) -> None:
        """The account of ``email`` was deleted."""
        self._places.pop(email, None)

    def _device(self, requester: Requester, nonce: str | None, wait: _Wait) -> list[tuple[Gate, str]]:
        """What counts a try on a known device; nothing if it is none, or has failed too often: then it is a stranger."""
        device = f"device\n{requester.account}\n{nonce}"
        return [] if nonce is None or wait(self._of_client, device) else [(self._of_client, device)]

    def _is_place(self, requester: Requester) -> bool:
        places = self._places.get(requester.account)
        return places is not None and requester.address in places.addresses

    def _wanted(self, requester: Requester, nonce: str | None, wait: _Wait, hidden: bool) -> _Wanted:  # noqa: FBT001  # given by position
        """What counts a try, and, where strangers are refused, also what makes the refusal of a wrong password.

        A try that was ``hidden`` before is counted behind the refusal alone, as if it had been refused then. A try that is
        refused unseen is counted by nothing.
        """
        if device := self._device(requester, nonce, wait):
            return device, None
        account, address = requester.account, requester.address
        pair = f"place\n{account}\n{address}"
        strangers = [(self._of_client, pair), (self._of_address, address), (self._of_account, account)]
        spent = [(gate, wait_ms) for gate, key in strangers if (wait_ms := wait(gate, key))]
        behind = [(self._of_place, pair)] if self._is_place(requester) and not wait(self._of_place, pair) else []
        if hidden:
            return behind, None
        if not spent:
            return strangers + behind, None
        first, wait_ms = spent[0]
        return [] if first is self._of_client else behind, functools.partial(first.refusal, wait_ms)
