"""The rules for which refresh tokens of a session are accepted.

Every response to a refresh token contains a new token, numbered by ``rotation``. An exchange and its repeat therefore differ,
and two parties that hold copies are distinguished as soon as both have continued. A token is accepted as long as one cookie
jar may hold it or may have it under way. The grace is the time within which a response arrives, and a request that was sent
before that response.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class IssuedToken(msgspec.Struct, frozen=True, array_like=True):
    """A refresh token that is accepted until ``until_ms``, or without limit if that is None.

    ``used_at_ms`` is when it was first exchanged, None if never.
    """

    rotation: int
    issued_at_ms: int
    used_at_ms: int | None = None
    until_ms: int | None = None

    def honoured_at(self, now_ms: int) -> bool:
        """Return whether the token is accepted at ``now_ms``."""
        return self.until_ms is None or now_ms < self.until_ms


def honoured(tokens: Iterable[IssuedToken], rotation: int, now_ms: int) -> IssuedToken | None:
    """Return the token with ``rotation`` if it is accepted at ``now_ms``, else None: then a second party holds it."""
    for token in tokens:
        if token.rotation == rotation and token.honoured_at(now_ms):
            return token
    return None


def exchange(tokens: tuple[IssuedToken, ...], rotation: int, now_ms: int, grace_ms: int) -> tuple[IssuedToken, ...]:
    """Return the accepted tokens after the one with ``rotation`` was exchanged. The last one is the new token.

    The exchange shows which token the jar held a moment ago. Another token may still reach the jar, or may have reached it
    since, if it was issued less than one grace ago. The exception is a token that was used before the presented one was
    issued: the jar held it earlier and will not hold it again. All remaining tokens can occur only in requests sent before the
    presented token reached the jar, so they are accepted for at most one grace after it was issued.
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
