"""Failed logins are slowed down, and nobody can lock the owner out by failing on purpose (ASVS 6.1.1, 6.3.1).

Each attempt is counted when its hash begins, so parallel attempts can't overtake the count and waiting ones don't refuse
others; a success is given back. An attempt on a device that the account knows
(:mod:`interlock.server.guard.throttling.devices`) counts on that device's own counter. Any other attempt counts on three:
the account at this address, the address over all accounts, and the account over all strangers. So strangers use up only
what strangers share, and nothing of the owner's.

An account that does not exist is counted and answered alike. If the address or the account has used up its counter, the
password is still checked if this account has logged in from this address since the start with its current password; but
only the right password makes a difference. A wrong one gets the usual refusal, and no later: a hash that takes longer than
the shortest delay of a refusal is not awaited. Otherwise a client at a shared address could tell by the answers who else
has an account and logs in there.
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
from interlock.server.guard.throttling.limits import RateLimit
from interlock.server.guard.throttling.pseudonyms import Pseudonyms
from interlock.server.settings import Settings
from interlock.server.surface.accounts import Owner
from interlock.server.system.addresses import limit_key
from interlock.server.system.newest import keep_newest

_log = structlog.get_logger("interlock.security")

_PLACES_PER_ACCOUNT: Final = 8
_ACCOUNTS: Final = 50_000

_Wait: TypeAlias = Callable[[RateLimit, str], int]

_Wanted: TypeAlias = tuple[list[tuple[RateLimit, str]], Callable[[], RateLimited] | None]
"""Counters with their keys, and what makes the refusal of a wrong password if the result must stay hidden."""


class Client(msgspec.Struct, frozen=True):
    """The client of an attempt: its address, and the identifier of its device if the account knows it."""

    address: str
    device: str | None = None


class LoginAttempt:
    """A login attempt. ``requester``: for whom the password is hashed. ``wanted`` returns the counters it counts on."""

    def __init__(self, requester: Requester, wanted: Callable[[_Wait, bool], _Wanted]) -> None:
        self.requester = requester
        self._wanted = wanted
        self._refusal: Callable[[], RateLimited] | None = None

    @property
    def hidden(self) -> bool:
        """Whether a wrong password gets the answer of a refusal without a check. The time of the hash must not show then."""
        return self._refusal is not None

    def is_refused(self) -> bool:
        """Return whether it is refused without a check, whatever comes of the attempts in progress."""
        return not self._look(RateLimit.settled_wait_ms)

    def count(self) -> Ended:
        """Count the attempt, as a :data:`interlock.server.guard.passwords.hash_queue.Count`. May make it hidden."""
        wanted = self._look(RateLimit.wait_ms)
        if not wanted:
            # The refusal says how long to wait: see LoginLimits.trial.
            raise RateLimited(0)
        ends = [limit.begin(key) for limit, key in wanted]

        def end(*, counts: bool) -> None:
            for each in ends:
                each(counts=counts)

        return end

    def _look(self, wait: _Wait) -> list[tuple[RateLimit, str]]:
        wanted, refusal = self._wanted(wait, self.hidden)
        self._refusal = self._refusal or refusal
        return wanted

    def refused(self, error: Exception) -> Exception:
        """Return the error to raise instead of ``error``: for a hidden attempt, the refusal, which is also logged."""
        return error if self._refusal is None else self._refusal()


class _Places(msgspec.Struct):
    """Addresses from which an account has logged in with the password that was set at ``set_at_ms``."""

    set_at_ms: int
    addresses: dict[str, None]


class LoginLimits:
    """Counts login attempts."""

    def __init__(self, settings: Settings, clock: Clock, salt: bytes, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._of_address = RateLimit("login", "address", settings.limit_login_address, clock, salt)
        self._of_client = RateLimit("login", "client", settings.limit_login_client, clock, salt)
        self._of_account = RateLimit("login", "account", settings.limit_login_account, clock, salt)
        # Never visible in an answer: it limits the checks behind a refusal.
        self._of_place = RateLimit("login", "place", settings.limit_login_client, clock, salt)
        # By account. Only a known password adds an entry, so nobody else can evict one.
        self._places: dict[str, _Places] = {}

    @contextmanager
    def attempt(self, email: str, client: Client, method: str = "password") -> Iterator[LoginAttempt]:
        """Attempt a login to the account of ``email``, or with another ``method`` what a login allows.

        The body counts the attempt as its hash begins.

        The body raises CredentialInvalid if the login fails. If ``hidden``, it raises TimeoutError before the time shows.

        Raises:
            RateLimited: there were too many attempts; the body did not run, or failed.
        """
        requester = Requester(fold_email(email), limit_key(client.address))
        if self._device(requester, client.device, RateLimit.settled_wait_ms):
            requester = msgspec.structs.replace(requester, known=True)
        attempt = LoginAttempt(requester, functools.partial(self._wanted, requester, client.device))
        if attempt.is_refused():
            raise attempt.refused(RateLimited(0))
        try:
            yield attempt
        except CredentialInvalid as error:
            # The log holds no email address; a pseudonym lets it tell accounts apart.
            name = self._pseudonyms.of_email(email)
            known = requester.known or self._is_place(requester)
            _log.warning("login.failed", method=method, account=name, address=client.address, known=known)
            raise attempt.refused(error) from None
        except (Overloaded, RateLimited, TimeoutError) as error:
            raise attempt.refused(error) from None

    def remember(self, owner: Owner, address: str) -> None:
        """Record that the current password of ``owner`` was shown from ``address``. Drop the addresses of an older one.

        Otherwise someone who knew an old password could keep guessing the new one from every address they used before.
        """
        email, set_at_ms = owner.data.email or "", owner.account.password_changed_at_ms
        places = self._places.get(email)
        if places is None or places.set_at_ms < set_at_ms:
            places = _Places(set_at_ms, {})
        keep_newest(self._places, email, places, _ACCOUNTS)
        # Skip it if another client has set a new password since.
        if places.set_at_ms == set_at_ms:
            keep_newest(places.addresses, limit_key(address), None, _PLACES_PER_ACCOUNT)

    def forget(self, email: str) -> None:
        """Drop the addresses of the account of ``email``, which was deleted."""
        self._places.pop(email, None)
        for each in (self._of_client, self._of_account, self._of_place):
            each.forget_keys()

    def _device(self, requester: Requester, nonce: str | None, wait: _Wait) -> list[tuple[RateLimit, str]]:
        """Return the counter of a known device; none if it is unknown or failed too often, which makes it a stranger."""
        device = f"device\n{requester.account}\n{nonce}"
        return [] if nonce is None or wait(self._of_client, device) else [(self._of_client, device)]

    def _is_place(self, requester: Requester) -> bool:
        places = self._places.get(requester.account)
        return places is not None and requester.address in places.addresses

    def _wanted(self, requester: Requester, nonce: str | None, wait: _Wait, hidden: bool) -> _Wanted:  # noqa: FBT001  # given by position
        """Return the counters of an attempt and, where strangers are refused, what makes a wrong password's refusal.

        An attempt that was ``hidden`` before counts behind the refusal only, as if it had been refused then. One that is
        refused without a check counts nowhere.
        """
        if device := self._device(requester, nonce, wait):
            return device, None
        account, address = requester.account, requester.address
        pair = f"place\n{account}\n{address}"
        strangers = [(self._of_client, pair), (self._of_address, address), (self._of_account, account)]
        spent = [(limit, wait_ms) for limit, key in strangers if (wait_ms := wait(limit, key))]
        behind = [(self._of_place, pair)] if self._is_place(requester) and not wait(self._of_place, pair) else []
        if hidden:
            return behind, None
        if not spent:
            return strangers + behind, None
        first, wait_ms = spent[0]
        return [] if first is self._of_client else behind, functools.partial(first.refusal, wait_ms)
