"""Generated ids of sessions, connections, commands and accounts. None of them is a credential."""

from __future__ import annotations

import base64
import itertools
import os
import secrets
from typing import Final


class _Process:
    """The name and the counter of this process."""

    def __init__(self) -> None:
        self.draw()
        # A forked child would repeat its parent's ids, and a command with a known id is treated as a repeat.
        os.register_at_fork(after_in_child=self.draw)

    def draw(self) -> None:
        self.name = secrets.token_urlsafe(16)
        self.numbers = itertools.count(1)


_process: Final = _Process()


def new_session_id(now_ms: int) -> str:
    """Return a new session id: 48 bits of time in milliseconds and 128 random bits, as 36 characters of base32hex.

    The time comes first so that new sessions are adjacent in the database's B-trees, as with UUIDv7 (RFC 9562, 5.7). Unlike a
    UUID, the id has the 128 random bits that ASVS 11.5.1 requires.
    """
    return base64.b32hexencode(now_ms.to_bytes(6, "big") + secrets.token_bytes(16)).rstrip(b"=").decode().lower()


def new_id(prefix: str) -> str:
    """Return ``prefix``, an underscore, and 128 random bits in 22 URL-safe characters."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"


def next_id(prefix: str) -> str:
    """Return ``prefix`` and a unique name: 128 random bits drawn once for this process, and a number.

    Use it for ids needed in every request: reading randomness from the kernel each time took a twentieth of a request's time.
    """
    return f"{prefix}_{_process.name}_{next(_process.numbers)}"
