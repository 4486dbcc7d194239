"""Rules for each line of a trace, given the lines before it. They share no code with the machine.

There is one :class:`Fold` per session, a separate fold over the recorded data. The declared rows come from
:mod:`interlock.spec.lifecycles`; the guards are evaluated here. Each rule names its property.
"""

from __future__ import annotations

from array import array
from typing import Final, NoReturn

from interlock.spec.lifecycles import SESSION
from interlock.spec.model.facts import FOLDS, GUARDS
from interlock.spec.model.lines import Ack, Append, Broken, Close, Drop, Open, Process, socket_of

FINAL: Final = frozenset(state.name for state in SESSION.states if state.final)
_ROWS: Final = {(row.event, row.source, row.target): row.guards for row in SESSION.transitions}
_KEPT: Final = 64
_NEVER: Final = -1
_NOTHING: Final[tuple[None, dict[str, str]]] = (None, {})


class Ended:
    """The rest of a session that has ended and whose earlier versions no process can show any more."""

    __slots__ = ("bounds", "commands", "session_id", "version")

    def __init__(self, fold: Fold) -> None:
        self.session_id = fold.session_id
        self.version = fold.version
        self.bounds = fold.bounds
        # In version order. A hash takes an eighth of an id's memory; collisions within one session are unlikely.
        self.commands = array("q", map(hash, fold.commands))

    def begin_life(self, process: Process) -> None:
        """See :meth:`Fold.begin_life`."""
        self.bounds[process.number] = self.version

    def ack(self, line: Ack, process: Process) -> None:
        """See :meth:`Fold.ack`."""
        if not 0 < line.version <= self.version or self.commands[line.version - 1] != hash(line.command):
            _unlogged(line, self.version)
        _see(self, line.view, process, line.version)

    def append(self, line: Append, process: Process) -> None:
        """See :meth:`Fold.append`: refuse every record."""
        del process
        _follows(line, self.version)
        _absorbed(line)

    def open(self, line: Open, process: Process) -> None:
        """See :meth:`Fold.open`: refuse every socket, because no connection is left."""
        _see(self, line.view, process)
        raise Broken("open_guard", f"{socket_of(line)} opens, and session {self.session_id} has ended")

    def gone(self, line: Close | Drop, process: Process) -> None:
        """See :meth:`Fold.gone`: refuse it, because no socket is open."""
        del process
        _not_open(line)


class Fold:
    """One session: the fold of its durable records, and what each process has shown of it.

    ``past`` holds (state, owners) after version ``first`` and each later one, as far back as a process may still refer to.
    ``issued`` has the time at which each refresh token of the epoch was issued. ``presented`` lists which tokens were
    presented, when, and which one was newest then. ``owners`` has the node of each connection; it is replaced, never modified.
    ``known`` has every connection that ever existed, and whether it was ever open. ``sockets`` has the process that holds each
    open one. ``bounds[n]`` is the newest version that process n has shown (-1: none); it may show none older.
    """

    __slots__ = (
        "absolute_deadline_ms",
        "at_ms",
        "bounds",
        "commands",
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
        "session_id",
        "sockets",
        "state",
        "subject",
        "version",
    )

    def __init__(self, session_id: str, processes: int) -> None:
        self.session_id = session_id
        self.version = 0
        self.at_ms = 0
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
        self.commands: dict[str, int] = {}
        self.sockets: dict[str, Process] = {}
        self.bounds = [_NEVER] * processes
        self.first = 0
        self.past: list[tuple[str | None, dict[str, str]]] = [(None, self.owners)]

    @property
    def settled(self) -> bool:
        """Whether the session has ended, no socket is open, and no process that showed it can show an older version."""
        return (
            self.state in FINAL and not self.sockets and all(bound in (_NEVER, self.version) for bound in self.bounds)
        )

    def begin_life(self, process: Process) -> None:
        """Process a restart: the process's sockets are gone, and it has read the log."""
        self.sockets = {known: holder for known, holder in self.sockets.items() if holder is not process}
        self.bounds[process.number] = self.version

    def recovered(self, process: Process) -> None:
        """Process a ``recover``: the process has disconnected its former life's connections.

        Raises:
            Broken: the session still holds such a connection.
        """
        for connection_id, node in self.owners.items():
            if node in process.names:
                raise Broken(
                    "orphan_reaped",
                    f"{node} has recovered, but session {self.session_id} still holds connection {connection_id} of it",
                )

    def append(self, line: Append, process: Process) -> None:
        """Process a durable record.

        Raises:
            Broken: the record does not follow, or is not declared.
        """
        _follows(line, self.version)
        if self.state in FINAL:
            _absorbed(line)
        if line.command in self.commands:
            raise Broken(
                "command_once", f"command {line.command} was recorded before, as version {self.commands[line.command]}"
            )
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
        if line.at_ms < self.at_ms:
            raise Broken("format", f"{line.event} was recorded at {line.at_ms}, after a record of {self.at_ms}")
        fold = FOLDS.get(line.event)
        if fold is not None:
            fold(self, line.data, line.at_ms)
        self.at_ms = line.at_ms
        self.owners = owners
        self.state = line.target
        self.version = line.version
        self.commands[line.command] = line.version
        self.past.append((line.target, owners))
        number = process.number
        self.bounds[number] = max(self.bounds[number], 0)
        if len(self.past) > _KEPT:
            self._forget()

    def ack(self, line: Ack, process: Process) -> None:
        """Process an answer to a caller.

        Raises:
            Broken: the answer is not in the log or older than an earlier one, or a socket is still open.
        """
        if self.commands.get(line.command) != line.version:
            _unlogged(line, self.version)
        _see(self, line.view, process, line.version)
        if self.sockets and line.view == self.version and self.state in FINAL:
            for connection_id, holder in self.sockets.items():
                if holder is process:
                    raise Broken(
                        "revocation_fence",
                        f"{line.node} acknowledged command {line.command}, whose answer says that session"
                        f" {self.session_id} has ended, while it holds socket {connection_id} open",
                    )

    def open(self, line: Open, process: Process) -> None:
        """Process the greeting of a socket.

        Raises:
            Broken: the session, as the node saw it, does not hold the connection, or the connection has been open before.
        """
        _see(self, line.view, process)
        state, owners = self._at(line.view)
        if state != "connected" or owners.get(line.connection) != line.node:
            raise Broken(
                "open_guard",
                f"{socket_of(line)} opens, but session {self.session_id} at version {line.view} is {state} and"
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
            _not_open(line)
        _see(self, line.view, process)
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
                f"after version {line.version} the session is {line.target} and holds {_several(len(owners), 'connection')}",
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
        oldest = min(bound for bound in self.bounds if bound != _NEVER)
        if oldest > self.first:
            del self.past[: oldest - self.first]
            self.first = oldest


_PROMISE_OF: Final = {("alive", "expire"): "no_early_expiry", ("rotation_honoured", "refresh"): "rotation"}


def _follows(line: Append, durable: int) -> None:
    if line.version != durable + 1:
        raise Broken(
            "versions_gapless", f"version {line.version} of session {line.session} was appended after version {durable}"
        )
    if line.view != line.version - 1:
        raise Broken("no_lost_update", f"version {line.version} was decided on version {line.view}")


def _absorbed(line: Append) -> NoReturn:
    raise Broken("expired_absorbs", f"{line.event} was recorded after the end of session {line.session}")


def _see(fold: Fold | Ended, view: int, process: Process, at_least: int = 0) -> None:
    """Check that a process may show version ``view``: it is durable, at least ``at_least``, and not older than shown before."""
    if view > fold.version or view < at_least:
        raise Broken(
            "cache_is_fold",
            f"version {view} of session {fold.session_id} was told, but the log holds {_several(fold.version, 'version')}"
            if view > fold.version
            else f"version {view} of session {fold.session_id} was told as the answer to version {at_least}",
        )
    if view < fold.bounds[process.number]:
        raise Broken(
            "view_monotonic",
            f"version {view} of session {fold.session_id} was told after version {fold.bounds[process.number]}",
        )
    fold.bounds[process.number] = view


def _unlogged(line: Ack, durable: int) -> NoReturn:
    held = f"only {_several(durable, 'version')}" if line.version > durable else "another command there"
    raise Broken(
        "acknowledged_logged",
        f"{line.node} acknowledged command {line.command} as version {line.version} of session {line.session}, but the"
        f" log holds {held}",
    )


def _not_open(line: Close | Drop) -> NoReturn:
    what = "closes" if type(line) is Close else "is dropped"
    raise Broken("open_guard", f"{socket_of(line)} {what}, and is not open there")


def _several(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _owned(owners: dict[str, str], connection_id: str) -> str:
    return f"the connection is {owners[connection_id]}'s" if connection_id in owners else "does not hold the connection"
