"""Which refresh tokens of a session are honoured.

Every answer to a refresh token is a new token, numbered by ``rotation``: an exchange and its repeat differ, so two parties
that hold copies are told apart as soon as both have gone on. A token is honoured as long as one cookie jar may hold it, or
may have it under way. The grace is the time within which an answer, and a request that was sent before it came, arrive.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class IssuedToken(msgspec.Struct, frozen=True, array_like=True):
    """A refresh token that is honoured: not at all from ``until_ms`` on, or without end if that is None.

    ``used_at_ms`` is when it was first exchanged; None if it never was.
    """

    rotation: int
    issued_at_ms: int
    used_at_ms: int | None = None
    until_ms: int | None = None

    def honoured_at(self, now_ms: int) -> bool:
        """Return whether it is exchanged at ``now_ms``."""
        return self.until_ms is None or now_ms < self.until_ms


def honoured(tokens: Iterable[IssuedToken], rotation: int, now_ms: int) -> IssuedToken | None:
    """Return the token with ``rotation`` if it is exchanged at ``now_ms``, else None: then it is in a second hand."""
    for token in tokens:
        if token.rotation == rotation and token.honoured_at(now_ms):
            return token
    return None


def exchange(tokens: tuple[IssuedToken, ...], rotation: int, now_ms: int, grace_ms: int) -> tuple[IssuedToken, ...]:
    """Return what is honoured once the token with ``rotation`` was exchanged for a new one, the last of the result.

    The exchange shows what the jar held a moment ago. Another token may still come to it, or have come since, if it was
    issued less than a grace ago, unless the presented one was issued after that other was used: then the jar held the other
    one first, and not again. All but these can only be in requests that were sent before the presented token reached the
    jar: for at most a grace after it was issued.
    """
    issued_at_ms = next((token.issued_at_ms for token in tokens if token.rotation == rotation), now_ms)
    moved_on_ms = issued_at_ms + grace_ms
    left = []
    for token in tokens:
        if token.rotation == rotation:
            used_at_ms = now_ms if token.used_at_ms is None else token.used_at_ms
            left.append(msgspec.structs.replace(token, used_at_ms=used_at_ms))
        elif now_ms < token.issued_at_ms + grace_ms and (token.used_at_ms is None or token.used_at_ms > issued_at_ms):
            left.append(token)
        else:
            until_ms = moved_on_ms if token.until_ms is None else min(token.until_ms, moved_on_ms)
            if now_ms < until_ms:
                left.append(msgspec.structs.replace(token, until_ms=until_ms))
    return (*left, IssuedToken(tokens[-1].rotation + 1, now_ms))
