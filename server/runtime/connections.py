"""The registry of live connections: who hears of a session's transitions, and is told when it ends.

It knows connections only by what they can be told. That a socket is behind one is the experience's business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from interlock.machine.closing import Close
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Disconnect
from interlock.machine.session.session import Session
from interlock.server.runtime.guarded import guarded
from interlock.server.system.loop_turns import LoopTurns

_HANDSHAKES: Final = 16


class Port(Protocol):
    """The registry's end of one live connection. No call blocks or raises."""

    def observe(self, record: Record) -> None:
        """``record`` of the connection's session was written."""
        ...

    def close(self, closing: Close) -> None:
        """End the connection."""
        ...

    def look_at_keys(self) -> None:
        """Keys have changed: end the connection if the one that it was opened with is gone."""
        ...

    def abort(self) -> None:
        """Drop the connection without a word: the last resort, should another call fail."""
        ...


class _Registered(NamedTuple):
    port: Port
    subject: str


class Held(NamedTuple):
    """One live connection of an account: its session, and itself."""

    session_id: str
    connection_id: str


class Connections:
    """Every live connection of this process, by session; and by account, oldest first.

    ``turnstile`` lets a few handshakes through at a time, and ``steps`` lets a few of those go on in a turn of the event loop.
    After a restart thousands come at once, and whatever else is asked waits for all that go on in the same turn.
    """

    def __init__(self) -> None:
        self.turnstile = asyncio.Semaphore(_HANDSHAKES)
        self.steps = LoopTurns()
        self._ports: dict[str, dict[str, _Registered]] = {}
        self._count = 0
        self._of_account: dict[str, dict[str, Held]] = {}
        self._arriving: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many connections are registered or arriving."""
        return self._count

    def of_account(self, subject: str) -> int:
        """How many connections of the account are registered or arriving, less those that were displaced."""
        return len(self._of_account.get(subject, ())) + self._arriving[subject]

    @contextmanager
    def arriving(self, subject: str) -> Iterator[None]:
        """Count a connection that has proved itself and is being recorded, so that no more arrive than there is room for.

        The caller registers it without waiting in between, or never.
        """
        self._count += 1
        self._arriving[subject] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._arriving[subject] -= 1
            if not self._arriving[subject]:
                del self._arriving[subject]

    def give_up_oldest(self, subject: str) -> Held | None:
        """The account's oldest connection, which no longer counts: the caller disconnects it. None when none is registered.

        It is found once only, so that each of several arrivals at once displaces another.
        """
        held = self._of_account.get(subject, {})
        for connection_id in held:
            oldest = held[connection_id]
            self._forget(subject, connection_id)
            return oldest
        return None

    def register(self, session_id: str, connection_id: str, port: Port, subject: str) -> None:
        """Add a connection. The caller looks at the session again afterwards: it may just have ended."""
        self._ports.setdefault(session_id, {})[connection_id] = _Registered(port, subject)
        self._of_account.setdefault(subject, {})[connection_id] = Held(session_id, connection_id)
        self._count += 1

    def unregister(self, session_id: str, connection_id: str, subject: str) -> None:
        """Remove a connection; removing it twice is harmless."""
        self._forget(subject, connection_id)
        ports = self._ports.get(session_id)
        if ports is not None and ports.pop(connection_id, None) is not None:
            self._count -= 1
            if not ports:
                del self._ports[session_id]

    def _forget(self, subject: str, connection_id: str) -> None:
        held = self._of_account.get(subject)
        if held is not None:
            held.pop(connection_id, None)
            if not held:
                del self._of_account[subject]

    def observe(self, record: Record, _session: Session | None) -> None:
        """Pass a transition on to every connection of its session, whoever wrote it."""
        ports = self._ports.get(record.transition.instance_id)
        if ports is None:
            return
        data = record.transition.data
        if isinstance(data, Disconnect) and data.connection_id in ports:
            # It no longer counts, though its socket may still be saying goodbye.
            self._forget(ports[data.connection_id].subject, data.connection_id)
        for port, _ in list(ports.values()):
            if not guarded(port.observe, record):
                guarded(port.abort)

    def close(self, session_id: str, connection_id: str, closing: Close) -> None:
        """End one connection, if it is registered."""
        registered = self._ports.get(session_id, {}).get(connection_id)
        if registered is not None:
            _close(registered.port, closing)

    def close_all(self, closing: Close) -> None:
        """End every connection."""
        for port in self._all():
            _close(port, closing)

    def look_at_keys(self) -> None:
        """End every connection that was opened with a key that is gone."""
        for port in self._all():
            if not guarded(port.look_at_keys):
                guarded(port.abort)

    def _all(self) -> list[Port]:
        return [registered.port for ports in self._ports.values() for registered in ports.values()]


def _close(port: Port, closing: Close) -> None:
    """End ``port``. What fails at that is dropped, and keeps no other open."""
    if not guarded(port.close, closing):
        guarded(port.abort)
