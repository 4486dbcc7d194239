"""The registry of live connections: who hears of a session's transitions, and is told when it ends.

It knows connections only by what they can be told. That a socket is behind one is the experience's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from machine.closing import Close
from machine.ledger import Record
from machine.session import Session


class Port(Protocol):
    """The registry's end of one live connection. Neither call blocks or raises."""

    def observe(self, record: Record, session: Session) -> None:
        """``record`` was written; ``session`` is how the session stands after it."""
        ...

    def close(self, closing: Close) -> None:
        """End the connection."""
        ...


class Connections:
    """Every live connection of this process, by session."""

    def __init__(self) -> None:
        self._ports: dict[str, dict[str, Port]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many connections are registered or arriving."""
        return self._count

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Count a connection that has proved itself and is being recorded, so that no more arrive than there is room for."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    def register(self, session_id: str, connection_id: str, port: Port) -> None:
        """Add a connection. The caller looks at the session again afterwards: it may just have ended."""
        self._ports.setdefault(session_id, {})[connection_id] = port
        self._count += 1

    def unregister(self, session_id: str, connection_id: str) -> None:
        """Remove a connection; removing it twice is harmless."""
        ports = self._ports.get(session_id)
        if ports is not None and ports.pop(connection_id, None) is not None:
            self._count -= 1
            if not ports:
                del self._ports[session_id]

    def observe(self, record: Record, session: Session) -> None:
        """Pass a transition on to every connection of its session."""
        for port in list(self._ports.get(session.session_id, {}).values()):
            port.observe(record, session)

    def close_all(self, closing: Close) -> None:
        """End every connection."""
        for ports in list(self._ports.values()):
            for port in list(ports.values()):
                port.close(closing)
