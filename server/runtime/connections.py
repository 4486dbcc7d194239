"""The registry of live connections, which passes a session's transitions and its end to them.

It knows connections only as :class:`ConnectionListener`; the experience knows that they are sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from interlock.machine.account.account import RAISE_EPOCH, Account
from interlock.machine.closing import Close
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Disconnect
from interlock.machine.session.session import FINAL_STATES, Session
from interlock.server.system.guarded import guarded
from interlock.server.system.loop_turns import LoopTurns

_HANDSHAKES: Final = 16


class ConnectionListener(Protocol):
    """The interface of one live connection to the registry. No call blocks or raises."""

    def observe(self, record: Record) -> None:
        """Process a ``record`` of the connection's session."""
        ...

    def observe_account(self, account: Account | None) -> None:
        """End the connection if ``account`` no longer backs its session.

        ``account`` is None if another process recorded that rights were taken away from its sessions.
        """
        ...

    def wake(self) -> None:
        """Send what is new in the session's stream."""
        ...

    def close(self, closing: Close) -> None:
        """Close the connection."""
        ...

    def look_at_keys(self) -> None:
        """Close the connection if the key of its credential no longer exists. Called when keys have changed."""
        ...

    def abort(self) -> None:
        """Drop the connection without a close frame: the last resort if another call fails."""
        ...


class _Registered(NamedTuple):
    listener: ConnectionListener
    subject: str


class HeldConnection(NamedTuple):
    """One live connection, and its session."""

    session_id: str
    connection_id: str


class Connections:
    """Every live connection of this process, by session; and by account, oldest first.

    ``turnstile`` limits concurrent handshakes, and ``turns`` spreads their continuations over turns of the event loop. After a
    restart thousands of clients reconnect at once, and other requests wait for all that continue in the same turn.
    """

    def __init__(self) -> None:
        self.turnstile = asyncio.Semaphore(_HANDSHAKES)
        self.turns = LoopTurns()
        self._listeners: dict[str, dict[str, _Registered]] = {}
        self._count = 0
        self._of_account: dict[str, dict[str, HeldConnection]] = {}
        self._arriving: set[str] = set()
        self._on_last: list[Callable[[str], None]] = []
        self._on_ended: Callable[[Record, int], None] | None = None

    def subscribe_last(self, on_last: Callable[[str], None]) -> None:
        """Call ``on_last`` with the id of each session whose last connection is removed."""
        self._on_last.append(on_last)

    def subscribe_ended(self, on_ended: Callable[[Record, int], None]) -> None:
        """Call ``on_ended`` with each record that ends a session, and the number of connections that were told to close."""
        self._on_ended = on_ended

    def __len__(self) -> int:
        """Return the number of connections that are registered, including arriving ones."""
        return self._count

    def of_session(self, session_id: str) -> int:
        """Return the number of the session's registered connections, including those that are closing."""
        return len(self._listeners.get(session_id, ()))

    def of_account(self, subject: str) -> int:
        """Return the number of the account's registered connections, without displaced ones."""
        return len(self._of_account.get(subject, ()))

    @contextmanager
    def arriving(
        self, session_id: str, connection_id: str, listener: ConnectionListener, subject: str
    ) -> Iterator[None]:
        """Register a connection while the body records it, so that it observes every later record. An exception removes it.

        It counts at once, so that concurrent arrivals can't exceed the limit. While it arrives, no other displaces it.
        """
        self._listeners.setdefault(session_id, {})[connection_id] = _Registered(listener, subject)
        self._of_account.setdefault(subject, {})[connection_id] = HeldConnection(session_id, connection_id)
        self._arriving.add(connection_id)
        self._count += 1
        try:
            yield
        except BaseException:
            self.unregister(session_id, connection_id, subject)
            raise
        finally:
            self._arriving.discard(connection_id)

    def evict_oldest(self, subject: str) -> HeldConnection | None:
        """The account's oldest connection, which no longer counts: the caller disconnects it. None when none has arrived.

        Each connection is returned only once, so that concurrent arrivals displace different ones.
        """
        held = self._of_account.get(subject, {})
        oldest = next((each for each in held.values() if each.connection_id not in self._arriving), None)
        if oldest is not None:
            self._forget(subject, oldest.connection_id)
        return oldest

    def unregister(self, session_id: str, connection_id: str, subject: str) -> None:
        """Remove a connection. Removing it twice is allowed."""
        self._forget(subject, connection_id)
        listeners = self._listeners.get(session_id)
        if listeners is not None and listeners.pop(connection_id, None) is not None:
            self._count -= 1
            if not listeners:
                del self._listeners[session_id]
                for on_last in self._on_last:
                    on_last(session_id)

    def _forget(self, subject: str, connection_id: str) -> None:
        held = self._of_account.get(subject)
        if held is not None:
            held.pop(connection_id, None)
            if not held:
                del self._of_account[subject]

    def observe(self, record: Record, _session: Session | None) -> None:
        """Pass a transition to every connection of its session, whichever process wrote it."""
        listeners = self._listeners.get(record.transition.instance_id)
        if listeners is None:
            return
        data = record.transition.data
        if isinstance(data, Disconnect) and data.connection_id in listeners:
            # It no longer counts, though its socket may still be closing.
            self._forget(listeners[data.connection_id].subject, data.connection_id)
        told = list(listeners.values())
        for listener, _ in told:
            _tell(listener, listener.observe, record)
        if self._on_ended is not None and record.transition.target in FINAL_STATES:
            self._on_ended(record, len(told))

    def observe_account(self, record: Record, account: Account | None) -> None:
        """End the connections of the sessions that an account no longer backs. The ends of the sessions may follow later."""
        if record.transition.event in RAISE_EPOCH:
            for session_id, connection_id in list(self._of_account.get(record.transition.instance_id, {}).values()):
                listener = self._listeners[session_id][connection_id].listener
                _tell(listener, listener.observe_account, account)

    def wake(self, session_id: str) -> None:
        """Let every connection of a session send what is new in the session's stream."""
        for listener, _ in list(self._listeners.get(session_id, {}).values()):
            _tell(listener, listener.wake)

    def close(self, session_id: str, connection_id: str, closing: Close) -> None:
        """Close one connection, if it is registered."""
        registered = self._listeners.get(session_id, {}).get(connection_id)
        if registered is not None:
            _tell(registered.listener, registered.listener.close, closing)

    def close_all(self, closing: Close) -> None:
        """Close every connection."""
        for listener in self._all():
            _tell(listener, listener.close, closing)

    def held(self) -> list[HeldConnection]:
        """Return every connection."""
        return [HeldConnection(session, name) for session, each in self._listeners.items() for name in each]

    def look_at_keys(self) -> None:
        """Close every connection whose credential was signed with a key that no longer exists."""
        for listener in self._all():
            _tell(listener, listener.look_at_keys)

    def _all(self) -> list[ConnectionListener]:
        return [registered.listener for listeners in self._listeners.values() for registered in listeners.values()]


def _tell(listener: ConnectionListener, call: Callable[..., object], *arguments: object) -> None:
    """Make ``call``, a method of ``listener``. If it fails, abort the listener, so that the others are still told."""
    if not guarded(call, *arguments):
        guarded(listener.abort)
