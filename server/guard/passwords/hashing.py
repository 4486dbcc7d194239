"""Password hashes: argon2id (RFC 9106), in a few threads of its own and never on the event loop."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

import argon2
import msgspec

from interlock.machine.errors import Overloaded, PasswordRefused, RateLimited
from interlock.server.guard.passwords.blocklist import Blocklist
from interlock.server.guard.passwords.hash_queue import Count, Ended, Entry, HashQueue, Requester
from interlock.server.system.workers import Workers, settle

T = TypeVar("T")

MINIMUM_LENGTH: Final = 15
"""NIST SP 800-63B-4, 3.1.1.2: at least 15 characters if the password is the only factor."""

MAXIMUM_LENGTH: Final = 1024

_MAXIMUM_MARKS: Final = 30
"""Unicode's Stream-Safe Text Format (UAX #15, 13): no language puts more combining characters on one letter."""

_AT_A_TIME_S: Final = 0.004
"""A thread takes a batch of hashes that fills this time: a single one at any cost that protects a password. At the low
costs of tests and benchmarks, handing a hash over and waking its caller costs more than the hash."""
_MOST_AT_A_TIME: Final = 32

_STRANGERS_NICENESS: Final = 19
_KNOWN_NICENESS: Final = 10
"""Linux sets niceness per thread: hashes get what the event loop leaves, and strangers' hashes what remains."""


def _nothing(*, counts: bool) -> None:
    pass


def uncounted() -> Ended:
    """Count nothing: a no-op :data:`interlock.server.guard.passwords.hash_queue.Count`."""
    return _nothing


class _Begun(msgspec.Struct, eq=False):
    """A job that a thread computes now or next. It left the queue as ``entry``. ``ended``: see ``Count``."""

    entry: Entry[_Job]
    ended: Ended

    @property
    def future(self) -> asyncio.Future[Any]:
        return self.entry.job.future


class _Job(msgspec.Struct, eq=False):
    work: Callable[..., Any]
    arguments: tuple[object, ...]
    count: Count
    future: asyncio.Future[Any]


class _Pool:
    """``threads`` threads of priority ``niceness`` that take ``at_a_time`` jobs each, and their queue."""

    def __init__(self, *, threads: int, at_a_time: int, max_waiting: int, niceness: int) -> None:
        self._queue: HashQueue[_Job] = HashQueue(max_waiting=max_waiting)
        self._threads = Workers(
            "interlock-argon2",
            self._compute,
            max_waiting=threads * at_a_time,
            at_once=at_a_time,
            threads=threads,
            on_start=functools.partial(_step_back, niceness),
        )
        self._places = threads * at_a_time
        self._threads.start()

    @property
    def waiting(self) -> int:
        """How many hashes wait or are being computed."""
        return len(self._queue) + self._threads.waiting

    async def run(self, requester: Requester, count: Count, work: Callable[..., T], *arguments: object) -> T:
        """Run ``work`` in a thread and return its result. The attempt stays counted if the result is False.

        Raises:
            Overloaded: too many wait.
            RateLimited: ``count`` refused it.
        """
        job = _Job(work, arguments, count, asyncio.get_running_loop().create_future())
        entry, displaced = self._queue.add(requester, job)
        if displaced is not None:
            settle([displaced.job.future], [Overloaded()])
        try:
            self._begin()
            return cast("T", await job.future)
        finally:
            self._queue.remove(entry)

    def close(self) -> None:
        """Stop the threads. Hashes that have not begun are cancelled."""
        for job in [*self._queue.drain(), *[begun.entry.job for begun in self._threads.take_back()]]:
            job.future.cancel()
        self._threads.stop()
        self._threads.join()

    def _begin(self) -> None:
        """Give free threads the next jobs."""
        while self._threads.waiting < self._places and (entry := self._queue.begin()) is not None:
            job = entry.job
            try:
                # If its caller is gone, the attempt does not count.
                ended = uncounted() if job.future.done() else job.count()
            except RateLimited as refused:
                self._queue.end(entry)
                settle([job.future], [refused])
                # Continue in another turn of the loop: many may be refused in a row, and each search takes time.
                asyncio.get_running_loop().call_soon(self._begin)
                return
            self._threads.give(_Begun(entry, ended))

    def _ended(self, all_begun: list[_Begun], outcomes: list[Any]) -> None:
        for begun, outcome in zip(all_begun, outcomes, strict=True):
            self._queue.end(begun.entry)
            # Before the account's next hash begins, which this attempt could otherwise get refused.
            begun.ended(counts=outcome is False)
        self._threads.settle(all_begun, outcomes)
        self._begin()

    def _compute(self, all_begun: list[_Begun]) -> None:
        outcomes = [_outcome(begun.entry.job) for begun in all_begun]
        all_begun[0].future.get_loop().call_soon_threadsafe(self._ended, all_begun, outcomes)


def _outcome(job: _Job) -> Any:
    """Run ``job`` and return its result. Return None without hashing if its caller is gone."""
    if job.future.cancelled():
        return None
    try:
        return job.work(*job.arguments)
    except Exception as error:  # noqa: BLE001  # the caller raises it
        return error


class Passwords:
    """Hashes and verifies passwords.

    ``memory_kib``, ``iterations`` and ``threads`` are argon2id's cost. ``workers`` is the number of hashes computed at a
    time, and ``max_waiting`` the number that may wait before callers get Overloaded, each for known devices and again for
    strangers. Either computes one hash per account at a time, so both together two. The threads for strangers have the
    lowest priority, so a flood hardly delays an owner. ``blocklist`` refuses new passwords that are easy to guess.
    """

    def __init__(
        self, *, memory_kib: int, iterations: int, workers: int, max_waiting: int, blocklist: Blocklist | None = None
    ) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        self._blocklist = blocklist or Blocklist("interlock", ())
        # The hash for logins without an account, so that they cost the same.
        began_s = time.perf_counter()
        self._decoy = self._hasher.hash(secrets.token_urlsafe())
        at_a_time = min(_MOST_AT_A_TIME, max(1, int(_AT_A_TIME_S / (time.perf_counter() - began_s))))
        pool = functools.partial(_Pool, threads=workers, at_a_time=at_a_time, max_waiting=max_waiting)
        self._known, self._strangers = pool(niceness=_KNOWN_NICENESS), pool(niceness=_STRANGERS_NICENESS)

    @property
    def waiting(self) -> int:
        """How many hashes wait or are being computed."""
        return self._known.waiting + self._strangers.waiting

    @staticmethod
    def check_rules(password: str) -> None:
        """Check a new password's length in characters after NFC. There are no composition rules.

        Raises:
            PasswordRefused: it is too short or too long.
        """
        if _is_beyond_normalising(password):
            raise PasswordRefused(f"a password has at most {_MAXIMUM_MARKS} combining characters in a row")
        length = len(unicodedata.normalize("NFC", password))
        if length < MINIMUM_LENGTH:
            raise PasswordRefused(f"a password has at least {MINIMUM_LENGTH} characters")
        if length > MAXIMUM_LENGTH:
            raise PasswordRefused(f"a password has at most {MAXIMUM_LENGTH} characters")

    async def check_new(self, password: str, personal: Iterable[str], requester: Requester) -> None:
        """Check that a new password has the right length and is hard to guess. ``personal``: its owner's email address.

        Raises:
            PasswordRefused: it breaks one of the two rules.
            Overloaded: too many wait.
        """
        await self._run(requester, self._check_new, password, list(personal))

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether ``password_hash`` was made with parameters other than the current ones."""
        return self._hasher.check_needs_rehash(password_hash)

    async def hash(self, password: str, requester: Requester) -> str:
        """Return the argon2id string of ``password``.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(requester, self._hash, password)

    async def verify(
        self, password_hash: str | None, password: str, requester: Requester, count: Count = uncounted
    ) -> bool:
        """Return whether ``password`` matches ``password_hash``. None (no such account) takes as long and returns False.

        ``count`` counts the attempt while it runs; it stays counted if the result is False.

        Raises:
            Overloaded: too many wait.
            RateLimited: ``count`` refused it.
        """
        return await self._run(requester, self._verify, password_hash, password, count=count)

    def close(self) -> None:
        """Stop the threads. Hashes that have not begun are cancelled."""
        self._known.close()
        self._strangers.close()

    def _check_new(self, password: str, personal: list[str]) -> None:
        self.check_rules(password)
        self._blocklist.check(password, personal)

    def _hash(self, password: str) -> str:
        return self._hasher.hash(_bytes(password))

    def _verify(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._decoy, _bytes(password))
        except argon2.exceptions.VerifyMismatchError:
            return False
        return password_hash is not None

    async def _run(
        self, requester: Requester, work: Callable[..., T], *arguments: object, count: Count = uncounted
    ) -> T:
        pool = self._known if requester.known else self._strangers
        return await pool.run(requester, count, work, *arguments)


def _step_back(niceness: int) -> None:
    """Lower this thread's priority below this process's other threads, above all the event loop's."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _is_beyond_normalising(text: str) -> bool:
    """Return whether ``text`` has so many combining characters in a row that sorting them takes too long.

    The time grows with the square of their number, and blocks the interpreter whichever thread does it.
    """
    run = 0
    if not text.isascii():
        for character in text:
            run = run + 1 if unicodedata.combining(character) else 0
            if run > _MAXIMUM_MARKS:
                return True
    return False


def _bytes(password: str) -> bytes:
    # No account has such a password, so its encoding does not matter.
    if _is_beyond_normalising(password):
        return password.encode("utf-8", "surrogatepass")
    return unicodedata.normalize("NFC", password).encode()
