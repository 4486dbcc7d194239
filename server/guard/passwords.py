"""Password hashes: argon2id (RFC 9106) in a few threads of its own, never on the event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar, cast

import argon2

from machine.errors import Overloaded, PasswordRefused
from server.guard.blocklist import Blocklist
from server.workers import Workers, settle

T = TypeVar("T")

MINIMUM_LENGTH: Final = 15
"""NIST SP 800-63B-4, 3.1.1.2: a password that is the only factor has at least 15 characters."""

MAXIMUM_LENGTH: Final = 1024

_NICENESS: Final = 19
"""Linux has it for each thread: hashes get what everything else leaves, and a little."""


class _Job(NamedTuple):
    work: Callable[..., Any]
    arguments: tuple[object, ...]
    future: asyncio.Future[Any]


class Passwords:
    """Hashes and checks passwords.

    ``memory_kib``, ``iterations`` and ``threads`` are argon2id's cost; ``workers`` how many hashes are computed at a time,
    and ``max_waiting`` how many may wait for that before callers are told Overloaded; half as many more places are kept for
    owners who come from where they came before, so that a flood of strangers does not shut them out. ``blocklist``: which new
    passwords are too easy to guess.
    """

    def __init__(
        self, *, memory_kib: int, iterations: int, workers: int, max_waiting: int, blocklist: Blocklist | None = None
    ) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        self._workers = Workers("interlock-argon2", _compute, threads=workers, on_start=_step_back)
        self._workers.start()
        self._max_waiting = max_waiting + workers
        self._kept_places = max(1, max_waiting // 2)
        self._blocklist = blocklist or Blocklist("interlock", ())
        self._waiting = 0
        # What a login to no account is checked against, so that it costs the same as one to an account.
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    @property
    def waiting(self) -> int:
        """How many hashes wait or are being computed."""
        return self._waiting

    @staticmethod
    def check_rules(password: str) -> None:
        """Check a new password's length, in characters after NFC normalisation. There are no composition rules.

        Raises:
            PasswordRefused: it is too short or too long.
        """
        length = len(unicodedata.normalize("NFC", password))
        if length < MINIMUM_LENGTH:
            raise PasswordRefused(f"a password has at least {MINIMUM_LENGTH} characters")
        if length > MAXIMUM_LENGTH:
            raise PasswordRefused(f"a password has at most {MAXIMUM_LENGTH} characters")

    async def check_new(self, password: str, personal: Iterable[str]) -> None:
        """Check a new password: its length, and that it is not easy to guess; ``personal`` is its owner's email address.

        Raises:
            PasswordRefused: it breaks one of the two rules.
            Overloaded: too many wait.
        """
        self.check_rules(password)
        await self._run(self._blocklist.check, password, list(personal))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether ``password_hash`` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    async def hash(self, password: str) -> str:
        """The argon2id string of ``password``.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(self._hasher.hash, _bytes(password))

    async def verify(self, password_hash: str | None, password: str, *, known: bool = False) -> bool:
        """Whether ``password`` is the one behind ``password_hash``. None (no such account) takes as long and is False.

        ``known``: it may use the places kept for owners.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(
            self._verify, password_hash, _bytes(password), kept_places=self._kept_places if known else 0
        )

    def close(self) -> None:
        """Stop the threads. Nobody gets the hashes that were not begun."""
        for job in self._workers.take_back():
            job.future.cancel()
        self._workers.stop()
        self._workers.join()

    def _verify(self, password_hash: str | None, password: bytes) -> bool:
        try:
            self._hasher.verify(password_hash or self._decoy, password)
        except argon2.exceptions.VerifyMismatchError:
            return False
        return password_hash is not None

    def check_room(self, *, known: bool) -> None:
        """Ask before anything else is done for a login that would find no place; ``known`` as for :meth:`verify`.

        Raises:
            Overloaded: too many wait.
        """
        self._check_room(self._kept_places if known else 0)

    def _check_room(self, kept_places: int) -> None:
        if self._waiting >= self._max_waiting + kept_places:
            raise Overloaded

    async def _run(self, work: Callable[..., T], *arguments: object, kept_places: int = 0) -> T:
        self._check_room(kept_places)
        self._waiting += 1
        try:
            job = _Job(work, arguments, asyncio.get_running_loop().create_future())
            self._workers.give(job)
            return cast("T", await job.future)
        finally:
            self._waiting -= 1


def _compute(jobs: list[_Job]) -> None:
    for job in jobs:
        # Its caller may have gone away while it waited: a hash costs too much for nobody.
        if job.future.cancelled():
            continue
        try:
            outcome = job.work(*job.arguments)
        except Exception as error:  # noqa: BLE001  # it belongs to the caller
            outcome = error
        job.future.get_loop().call_soon_threadsafe(settle, [job.future], [outcome])


def _step_back() -> None:
    """Let this thread wait for the others of this process, above all the event loop's: a hash can, and many are long."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()
