"""Rules for each line about a session, given the lines before it. They share no code with the machine.

There is one :class:`Fold` per session, a separate fold over the recorded data. The declared rows come from
:mod:`interlock.spec.lifecycles`; the guards are evaluated here. Each rule names its property.
"""

from __future__ import annotations

from typing import Final

from interlock.spec.lifecycles import SESSION
from interlock.spec.model.trace.lines import Ack, Append, Close, Drop, Open
from interlock.spec.model.trace.process import Broken, Process, socket_of
from interlock.spec.model.trace.session_facts import FOLDS, GUARDS
from interlock.spec.model.trace.versions import NEVER, Versions, not_open, see, several

FINAL: Final = frozenset(state.name for state in SESSION.states if state.final)
_ROWS: Final = {(row.event, row.source, row.target): row.guards for row in SESSION.transitions}
_KEPT: Final = 64
_NOTHING: Final[tuple[None, dict[str, str]]] = (None, {})


class Fold(Versions):
    """One session: the fold of its durable records, and what each process has shown of it.

    ``past`` holds (state, owners) after version ``first`` and each later one, as far back as a process may still refer to.
    ``issued`` has the time at which each refresh token of the epoch was issued. ``presented`` lists which tokens were
    presented, when, and which one was newest then. ``owners`` has the node of each connection; it is replaced, never modified.
    ``known`` has every connection that ever existed, and whether it was ever open. ``sockets`` has the process that holds each
    open one.
    """

    __slots__ = (
        "absolute_deadline_ms",
        "epoch",
        "first",
        "idle_deadline_ms",
        "issued",
        "known",
        "owners",
        "past",
        "policy",
        "presented",
        "rotation",
        "sockets",
        "state",
        "subject",
    )

    def __init__(self, session_id: str, processes: int) -> None:
        super().__init__(("session", session_id), processes)
        self.state: str | None = None
        self.subject: str | None = None
        self.epoch: int = 0
        self.rotation: int = 0
        self.issued: dict[int, int] = {}
        self.presented: list[tuple[int, int, int]] = []
        self.idle_deadline_ms: int = 0
        self.absolute_deadline_ms: int = 0
        self.policy: dict[str, int] = {}
        self.owners: dict[str, str] = {}
        self.known: dict[str, bool] = {}
        self.sockets: dict[str, Process] = {}
        self.first = 0
        self.past: list[tuple[str | None, dict[str, str]]] = [(None, self.owners)]

    @property
    def ended(self) -> bool:
        """See :attr:`Versions.ended`."""
        return self.state in FINAL

    @property
    def settled(self) -> bool:
        """See :attr:`Versions.settled`; and no socket is open."""
        return not self.sockets and super().settled

    def begin_life(self, process: Process) -> None:
        """Process a restart: the process's sockets are gone, and it has read the log."""
        self.sockets = {known: holder for known, holder in self.sockets.items() if holder is not process}
        super().begin_life(process)

    def recovered(self, process: Process) -> None:
        """Process a ``recover``: the process has disconnected its former life's connections.

        Raises:
            Broken: the session still holds such a connection.
        """
        for connection_id, node in self.owners.items():
            if node in process.names:
                raise Broken(
                    "orphan_reaped",
                    f"{node} has recovered, but {self.name} still holds connection {connection_id} of it",
                )

    def append(self, line: Append, process: Process) -> None:
        """Process a durable record.

        Raises:
            Broken: the record does not follow, or is not declared.
        """
        self.check_next(line)
        if not process.recovered and not line.late:
            self._check_recovering(line, process)
        owners = self.owners
        if line.event == "connect":
            owners = self._connected(line, process)
        elif line.event == "disconnect":
            owners = self._disconnected(line)
        elif line.target in FINAL:
            owners = {}
        self._check_declared(line, owners)
        self.check_time(line)
        fold = FOLDS.get(line.event)
        if fold is not None:
            fold(self, line.data, line.at_ms)
        self.owners = owners
        self.state = line.target
        self.advance(line, process)
        self.past.append((line.target, owners))
        if len(self.past) > _KEPT:
            self._forget()

    def ack(self, line: Ack, process: Process) -> None:
        """Process an answer to a caller.

        Raises:
            Broken: the answer is not in the log or older than an earlier one, or a socket is still open.
        """
        super().ack(line, process)
        if self.sockets and line.view == self.version and self.state in FINAL:
            for connection_id, holder in self.sockets.items():
                if holder is process:
                    raise Broken(
                        "revocation_fence",
                        f"{line.node} acknowledged command {line.command}, whose answer says that {self.name}"
                        f" has ended, while it holds socket {connection_id} open",
                    )

    def open(self, line: Open, process: Process) -> None:
        """Process the greeting of a socket.

        Raises:
            Broken: the session, as the node saw it, does not hold the connection, or the connection has been open before.
        """
        see(self, line.view, process)
        state, owners = self._at(line.view)
        if state != "connected" or owners.get(line.connection) != line.node:
            raise Broken(
                "open_guard",
                f"{socket_of(line)} opens, but {self.name} at version {line.view} is {state} and"
                f" {_owned(owners, line.connection)}",
            )
        if line.connection in self.sockets:
            raise Broken("single_owner", f"{socket_of(line)} opens, and is open already")
        if self.known[line.connection]:
            raise Broken("single_owner", f"{socket_of(line)} opens again after it was gone")
        self.known[line.connection] = True
        self.sockets[line.connection] = process

    def gone(self, line: Close | Drop, process: Process) -> None:
        """Process the close or drop of a socket.

        Raises:
            Broken: the socket was not open on this node.
        """
        if self.sockets.get(line.connection) is not process:
            not_open(line)
        see(self, line.view, process)
        del self.sockets[line.connection]

    def _check_recovering(self, line: Append, process: Process) -> None:
        if line.event != "disconnect" or self.owners.get(line.data["connection_id"]) not in process.names:
            raise Broken(
                "crashed_recovers",
                f"{line.node} recorded {line.event} in a life that has not recovered yet; only disconnects of its own"
                " connections come before",
            )

    def _connected(self, line: Append, process: Process) -> dict[str, str]:
        connection_id, node = line.data["connection_id"], line.data["node"]
        if self.epoch == 0:
            raise Broken("authentication_first", f"connection {connection_id} connects before anybody has logged in")
        if line.late:
            # The life that died may have had another node name.
            process.names.add(node)
        elif node != line.node:
            raise Broken("single_owner", f"{line.node} recorded a connect in the name of {node}")
        if connection_id in self.owners:
            raise Broken("single_owner", f"connection {connection_id} connects and is {self.owners[connection_id]}'s")
        if connection_id in self.known:
            raise Broken("single_owner", f"connection {connection_id} connects again after it was disconnected")
        self.known[connection_id] = False
        return {**self.owners, connection_id: node}

    def _disconnected(self, line: Append) -> dict[str, str]:
        connection_id = line.data["connection_id"]
        if connection_id in self.sockets:
            raise Broken("open_guard", f"connection {connection_id} disconnects while its socket is open")
        return {known: node for known, node in self.owners.items() if known != connection_id}

    def _check_declared(self, line: Append, owners: dict[str, str]) -> None:
        terms = _ROWS.get((line.event, line.source, line.target))
        if terms is None or line.source != self.state:
            raise Broken(
                "declared_only",
                f"{line.event} from {line.source} to {line.target} is not declared"
                if terms is None
                else f"{line.event} from {line.source}, but the session is {self.state}",
            )
        if (line.target == "connected") != bool(owners):
            raise Broken(
                "owner_coherence",
                f"after version {line.version} the session is {line.target} and holds {several(len(owners), 'connection')}",
            )
        for term in terms:
            if GUARDS[term.name](self, line.data, line.at_ms) != term.expected:
                promise = _PROMISE_OF.get((term.name, line.event), "declared_only")
                raise Broken(promise, f"{line.event} was recorded at {line.at_ms}, but the guard {term} does not hold")

    def _at(self, version: int) -> tuple[str | None, dict[str, str]]:
        """Return (state, owners) after ``version``. A process that never showed the session owned nothing at older versions."""
        return self.past[version - self.first] if version >= self.first else _NOTHING

    def _forget(self) -> None:
        """Drop versions that no process that ever showed the session may still show."""
        oldest = min(bound for bound in self.bounds if bound != NEVER)
        if oldest > self.first:
            del self.past[: oldest - self.first]
            self.first = oldest


_PROMISE_OF: Final = {("alive", "expire"): "no_early_expiry", ("rotation_honoured", "refresh"): "rotation"}


def _owned(owners: dict[str, str], connection_id: str) -> str:
    return f"the connection is {owners[connection_id]}'s" if connection_id in owners else "does not hold the connection"
