"""Rate limits by address, account and session, and in total. Failed logins: :mod:`interlock.server.guard.throttling.logins`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import structlog

from interlock.machine.errors import Overloaded, RateLimited
from interlock.machine.rate_limit import Charge, Limiter, parse_rate
from interlock.server.clock import Clock
from interlock.server.guard.passwords.hash_queue import Count, Ended
from interlock.server.settings import Settings
from interlock.server.system.addresses import limit_key

LimitedAction: TypeAlias = Literal[
    "create_session", "register", "login", "refresh", "ticket", "handshake", "password", "exchange", "intent"
]
"""The kind of request. Each kind is counted separately."""

_log = structlog.get_logger("interlock.traffic")

_MS_PER_S: Final = 1_000


class RateLimit:
    """A rate limiter with its clock, which logs refusals."""

    def __init__(self, kind: str, by: str, rate: str, clock: Clock, salt: bytes) -> None:
        self._kind = kind
        self._by = by
        self._clock = clock
        self._limiter = Limiter(parse_rate(rate), salt=salt)
        self._under_way: Counter[str] = Counter()

    def wait_ms(self, key: str) -> int:
        """Return how long ``key`` must wait; 0 if it need not."""
        return self._limiter.wait_ms(key, self._clock.now_ms())

    def forget_keys(self) -> None:
        """Drop the keys in memory, of which one may be personal data. What they used up stays counted."""
        self._limiter.forget_keys()

    def settled_wait_ms(self, key: str) -> int:
        """Return how long ``key`` must wait if no attempt in progress stays counted."""
        return self._limiter.wait_ms(key, self._clock.now_ms(), but=self._under_way.get(key, 0))

    def take(self, key: str) -> Charge:
        """Count one request of ``key``.

        Raises:
            RateLimited: its limit is used up; nothing was counted.
        """
        if wait_ms := self.wait_ms(key):
            raise self.refusal(wait_ms)
        return self._limiter.take(key, self._clock.now_ms())

    def begin(self, key: str) -> Ended:
        """Count an attempt of ``key`` in progress. Return the callback that ends it, and says whether it stays counted.

        Raises:
            RateLimited: its limit is used up; nothing was counted.
        """
        charge = self.take(key)
        self._under_way[key] += 1

        def end(*, counts: bool) -> None:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
            if not counts:
                self.give_back(charge)

        return end

    def give_back(self, charge: Charge) -> None:
        """Undo a :meth:`take`."""
        self._limiter.give_back(charge)

    def refusal(self, wait_ms: int) -> RateLimited:
        """Log a refusal (ASVS 16.3.3), and return the error to raise."""
        _log.warning("traffic.limited", kind=self._kind, by=self._by)
        return RateLimited(-(-wait_ms // _MS_PER_S))


class RateLimits:
    """The limits by address and by account."""

    def __init__(self, settings: Settings, clock: Clock, salt: bytes) -> None:
        def by_address(kind: LimitedAction, rate: str = settings.limit_address) -> RateLimit:
            return RateLimit(kind, "address", rate, clock, salt)

        def by_account(kind: LimitedAction, rate: str = settings.limit_account) -> RateLimit:
            return RateLimit(kind, "account", rate, clock, salt)

        self._by_address: dict[LimitedAction, RateLimit] = {
            "create_session": by_address("create_session", settings.limit_session_create),
            "login": by_address("login"),
            "register": by_address("register", settings.limit_register),
            "refresh": by_address("refresh"),
            "ticket": by_address("ticket"),
            "handshake": by_address("handshake"),
            "password": by_address("password"),
            "exchange": by_address("exchange"),
        }
        self._anonymous = RateLimit("anonymous", "total", settings.limit_anonymous, clock, salt)
        self._by_account: dict[LimitedAction, RateLimit] = {
            "login": by_account("login"),
            "refresh": by_account("refresh"),
            "ticket": by_account("ticket"),
            "handshake": by_account("handshake"),
            "password": by_account("password"),
            "exchange": by_account("exchange"),
            "intent": by_account("intent", settings.limit_intent),
        }
        self._wrong_passwords = RateLimit("password", "session", settings.limit_password, clock, salt)

    def of_address(self, kind: LimitedAction, address: str) -> None:
        """Count a request of ``kind`` from ``address``.

        Raises:
            RateLimited: there were too many.
        """
        self._by_address[kind].take(limit_key(address))

    def of_account(self, kind: LimitedAction, subject: str) -> None:
        """Count a request of ``kind`` for the account ``subject`` (an anonymous session's id if there is none).

        Raises:
            RateLimited: there were too many.
        """
        self._by_account[kind].take(subject)

    @contextmanager
    def login_of_account(self, subject: str) -> Iterator[None]:
        """Count a login of ``subject``, unless the server is overloaded: a flood of those must lock nobody out.

        Raises:
            RateLimited: there were too many.
        """
        limit = self._by_account["login"]
        charge = limit.take(subject)
        try:
            yield
        except Overloaded:
            limit.give_back(charge)
            raise

    @contextmanager
    def anonymous(self) -> Iterator[None]:
        """Count a permanent row that is written for a client that has not logged in. If the body fails, it is not counted.

        Raises:
            RateLimited: there were too many, of all clients together.
        """
        charge = self._anonymous.take("")
        try:
            yield
        except BaseException:
            self._anonymous.give_back(charge)
            raise

    def wrong_passwords(self, session_id: str) -> Count:
        """Return the counter of attempts at the current password, per session: a stolen one must not block the owner's.

        Raises:
            RateLimited: there were too many wrong ones.
        """
        if wait_ms := self._wrong_passwords.settled_wait_ms(session_id):
            raise self._wrong_passwords.refusal(wait_ms)
        return functools.partial(self._wrong_passwords.begin, session_id)
