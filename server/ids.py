"""Made-up names: session, connection, command and account ids. None of them is a credential."""

from __future__ import annotations

import base64
import itertools
import os
import secrets
from typing import Final


class _Process:
    """What is of this process alone."""

    def __init__(self) -> None:
        self.draw()
        # A child would give its parent's names again, and a command of a known name is taken for a repeat.
        os.register_at_fork(after_in_child=self.draw)

    def draw(self) -> None:
        self.name = secrets.token_urlsafe(16)
        self.numbers = itertools.count(1)


_process: Final = _Process()


def new_session_id(now_ms: int) -> str:
    """36 characters of base32hex: 48 bits of time in milliseconds, then 128 random bits.

    The time comes first so that new sessions lie side by side in the database's B-trees, as UUIDv7 does (RFC 9562, 5.7);
    unlike a UUID it holds the 128 random bits that ASVS 11.5.1 asks for.
    """
    return base64.b32hexencode(now_ms.to_bytes(6, "big") + secrets.token_bytes(16)).rstrip(b"=").decode().lower()


def new_id(prefix: str) -> str:
    """``prefix``, an underscore, and 128 random bits in 22 URL-safe characters."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"


def next_id(prefix: str) -> str:
    """``prefix`` and a name no other process or call gives: 128 random bits drawn once for this process, and a number.

    For what is named at every request: asking the kernel for randomness each time was a twentieth of a request's cost.
    """
    return f"{prefix}_{_process.name}_{next(_process.numbers)}"
