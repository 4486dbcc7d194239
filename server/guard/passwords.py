"""Password hashes: argon2id (RFC 9106) in a few threads of its own, never on the event loop."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2

from machine.errors import Overloaded, PasswordRefused

T = TypeVar("T")

MINIMUM_LENGTH: Final = 15
"""NIST SP 800-63B-4, 3.1.1.2: a password that is the only factor has at least 15 characters."""

MAXIMUM_LENGTH: Final = 1024


class Passwords:
    """Hashes and checks passwords.

    ``memory_kib``, ``iterations`` and ``threads`` are argon2id's cost; ``workers`` how many hashes are computed at a time,
    and ``max_waiting`` how many may wait for that before callers are told Overloaded.
    """

    def __init__(self, *, memory_kib: int, iterations: int, workers: int, max_waiting: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="interlock-argon2")
        self._max_waiting = max_waiting + workers
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

    async def hash(self, password: str) -> str:
        """The argon2id string of ``password``.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(self._hasher.hash, _bytes(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether ``password`` is the one behind ``password_hash``. None (no such account) takes as long and is False.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(self._verify, password_hash, _bytes(password))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _verify(self, password_hash: str | None, password: bytes) -> bool:
        try:
            self._hasher.verify(password_hash or self._decoy, password)
        except argon2.exceptions.VerifyMismatchError:
            return False
        return password_hash is not None

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        if self._waiting >= self._max_waiting:
            raise Overloaded
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._waiting -= 1


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()
