"""Delivery of the log's records to everything that reacts to transitions, whichever process wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import Record
from interlock.server.surface.log import Followed, TransitionLog
from interlock.server.system.guarded import guarded

_log = structlog.get_logger("interlock.server")

Listener = Callable[[Record, Any | None], None]
"""Called with a record, and the instance after it; the instance is None if another process wrote the record."""


class Feed:
    """Delivers every record of ``log`` once, in order, whether this or another process wrote it.

    The records of one commit are delivered together: first to all caches, then to each listener in turn. This happens in one
    turn of the event loop, before the callers are answered. A caller that gets its answer finds the caches as new as its own
    record, and the sockets of a session that it ended already closing.
    """

    def __init__(self, log: TransitionLog) -> None:
        self.log = log
        self._position = 0
        self._memories: list[tuple[str, Listener]] = []
        self._listeners: list[tuple[str | None, Listener]] = []

    @property
    def position(self) -> int:
        """The position of the last delivered record."""
        return self._position

    def remember(self, kind: str, memory: Listener) -> None:
        """Pass every record of ``kind`` to ``memory``, before all listeners. If it fails, the log stops.

        ``memory`` keeps a cache up to date. A cache that misses a record would serve revoked sessions.
        """
        self._memories.append((kind, memory))

    def subscribe(self, listener: Listener, kind: str | None = None) -> None:
        """Call ``listener`` with every record (of ``kind``, if given), after earlier subscribers.

        If it raises, the error is logged and the others are still called.
        """
        self._listeners.append((kind, listener))

    async def start(self, after: int = 0) -> None:
        """Follow the log from position ``after`` on. Return once all existing records are delivered.

        Raises:
            SurfaceFailed: the log can't be read.
        """
        self._position = after
        await self.log.follow(after, self._take)

    def _advance(self, followed: Sequence[Followed]) -> None:
        for record, _ in followed:
            if record.position != self._position + 1:
                raise SurfaceFailed(f"record {self._position} was followed by record {record.position}")
            self._position = record.position

    def _take(self, followed: Sequence[Followed]) -> None:
        try:
            self._advance(followed)
            for kind, memory in self._memories:
                for record, instance in followed:
                    if record.transition.kind == kind:
                        memory(record, instance)
        except Exception as error:
            _log.critical("feed.failed", exc_info=error)
            raise
        for wanted, listener in self._listeners:
            for record, instance in followed:
                if wanted is None or record.transition.kind == wanted:
                    guarded(listener, record, instance)
