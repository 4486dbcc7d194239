"""The log as it is followed: whatever reacts to transitions hears of them here, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import Record
from interlock.server.runtime.guarded import guarded
from interlock.server.surface.log import Followed, TransitionLog

_log = structlog.get_logger("interlock.server")

Listener = Callable[[Record, Any | None], None]
"""Called with a record, and the instance after it if this process wrote the record; None if another did."""


class Feed:
    """Hands on every record of ``log``: each once, in order, own writes like those of others.

    The records of one commit come together: first memory takes all of them, then each listener has them in turn. All of it
    happens in one turn of the event loop, and before the writers of the records are answered. So whoever is answered finds
    memory as new as its own record, and the sockets of a session that it ended closing.
    """

    def __init__(self, log: TransitionLog) -> None:
        self.log = log
        self._position = 0
        self._memories: list[tuple[str, Listener]] = []
        self._listeners: list[tuple[str | None, Listener]] = []

    @property
    def position(self) -> int:
        """The position of the last record that everybody has had."""
        return self._position

    def remember(self, kind: str, memory: Listener) -> None:
        """Have ``memory`` take every record of ``kind``, before all listeners. If it fails, the log stops.

        It is what keeps a cache as new as the log. One that has missed a record would serve what is revoked.
        """
        self._memories.append((kind, memory))

    def subscribe(self, listener: Listener, kind: str | None = None) -> None:
        """Have ``listener`` called with every record (of ``kind``, if given), after those that subscribed before.

        One that raises is logged, and stops no other.
        """
        self._listeners.append((kind, listener))

    async def start(self, after: int = 0) -> None:
        """Follow the log from position ``after`` on. Returns when everybody has had what there is.

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
