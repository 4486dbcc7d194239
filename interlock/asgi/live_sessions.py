"""Which sessions are in use here, which tokens were found good, and how long that may be believed. No clock, no network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from interlock.machine.closing import Close

UNKNOWN: Final = Close("overloaded")
"""The close of a socket when nobody knows any more whether its session lives: come back in a while."""


class Session(msgspec.Struct, frozen=True):
    """Whose request it is. ``subject`` is the account, or ``anonymous:…``; ``token_expires_at`` in seconds since the epoch."""

    session_id: str
    subject: str
    state: str
    token_expires_at: int


class Use:
    """One request or socket of a session. ``on_end`` is called once, with the close that tells the client."""

    def __init__(self, session_id: str, on_end: Callable[[Close], None]) -> None:
        self.session_id = session_id
        self.ended: Close | None = None
        self._on_end = on_end

    def end(self, close: Close) -> None:
        """End it, if it has not ended."""
        if self.ended is None:
            self.ended = close
            self._on_end(close)


class _Found(msgspec.Struct, frozen=True):
    session: Session
    until_ms: int


class LiveSessions:
    """Uses by session, and a bounded cache of tokens.

    The cache holds only while the ends of sessions are followed: an end drops its session's entries, and a break all of them.
    ``stale_after_ms`` after the last word of the server, nothing that is in use may go on.
    """

    def __init__(self, *, stale_after_ms: int, cache_ms: int, cache_size: int) -> None:
        self._stale_after_ms = stale_after_ms
        self._cache_ms = cache_ms
        self._cache_size = cache_size
        self._heard_at_ms: int | None = None
        self._uses: dict[str, set[Use]] = {}
        self._found: OrderedDict[str, _Found] = OrderedDict()
        self._tokens: dict[str, set[str]] = {}

    def register(self, session_id: str, on_end: Callable[[Close], None]) -> Use:
        """Note a use of a session, before it is known whether the session lives."""
        use = Use(session_id, on_end)
        self._uses.setdefault(session_id, set()).add(use)
        return use

    def leave(self, use: Use) -> None:
        """Forget a use."""
        uses = self._uses[use.session_id]
        uses.discard(use)
        if not uses:
            del self._uses[use.session_id]

    def following(self, now_ms: int) -> bool:
        """Return whether the ends of sessions arrive here."""
        return self._heard_at_ms is not None and now_ms < self._heard_at_ms + self._stale_after_ms

    def hear(self, now_ms: int) -> None:
        """Note that the server has said something on the stream."""
        self._heard_at_ms = now_ms

    def end(self, session_id: str, reason: str) -> None:
        """End all uses of a session that has ended, and forget its tokens."""
        for token in self._tokens.pop(session_id, ()):
            del self._found[token]
        for use in list(self._uses.get(session_id, ())):
            use.end(Close("session_ended", reason))

    def distrust(self) -> None:
        """Forget all tokens: ends may have been missed, and will be heard of later."""
        self._found.clear()
        self._tokens.clear()

    def end_stale(self, now_ms: int) -> None:
        """End everything in use if the server has been silent for too long."""
        if self.following(now_ms):
            return
        self.distrust()
        self.end_all()

    def end_all(self) -> None:
        """End everything in use, because nobody knows whether its sessions live."""
        for use in [each for uses in self._uses.values() for each in uses]:
            use.end(UNKNOWN)

    def cached(self, token: str, now_ms: int, now_s: int) -> Session | None:
        """Return the session of a token that was found good a short while ago, or None."""
        found = self._found.get(token)
        if found is None or now_ms >= found.until_ms or now_s >= found.session.token_expires_at:
            return None
        self._found.move_to_end(token)
        return found.session

    def keep(self, token: str, session: Session, now_ms: int) -> None:
        """Remember that a token is good, unless the ends of sessions don't arrive."""
        if not self.following(now_ms) or self._cache_size == 0:
            return
        self._found[token] = _Found(session, now_ms + self._cache_ms)
        self._found.move_to_end(token)
        self._tokens.setdefault(session.session_id, set()).add(token)
        if len(self._found) > self._cache_size:
            oldest, found = self._found.popitem(last=False)
            tokens = self._tokens[found.session.session_id]
            tokens.discard(oldest)
            if not tokens:
                del self._tokens[found.session.session_id]
