"""The rules that are the same for every lifecycle: an instance's versions, its commands, and what was told of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import Final, NoReturn

from interlock.spec.model.trace.lines import Ack, Append, Close, Drop, Instance, Open
from interlock.spec.model.trace.process import Broken, Process, socket_of

NEVER: Final = -1
"""The bound of a process that has shown no version."""

ABSORBED: Final = {"session": "expired_absorbs", "execution": "one_outcome"}
"""The property that forbids records after the end, by kind."""


class Versions(ABC):
    """The versions of one instance: how many are durable, and what each process has shown of them.

    ``commands`` has the version of each recorded command. ``bounds[n]`` is the newest version that process n has shown
    (-1: none); it may show none older.
    """

    __slots__ = ("at_ms", "bounds", "commands", "instance", "version")

    def __init__(self, instance: Instance, processes: int) -> None:
        self.instance = instance
        self.version = 0
        self.at_ms = 0
        self.commands: dict[str, int] = {}
        self.bounds = [NEVER] * processes

    @property
    def name(self) -> str:
        """The name of the instance in stories."""
        return " ".join(self.instance)

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the instance has ended."""

    @property
    def settled(self) -> bool:
        """Whether the instance has ended, and no process that showed it can show an older version."""
        return self.ended and all(bound in (NEVER, self.version) for bound in self.bounds)

    def begin_life(self, process: Process) -> None:
        """Process a restart: the process has read the log."""
        self.bounds[process.number] = self.version

    def check_next(self, line: Append) -> None:
        """Check that the record is the next one of the instance, and its command a new one.

        Raises:
            Broken: it is not.
        """
        check_follows(line, self)
        if self.ended:
            absorbed(line)
        if line.command in self.commands:
            raise Broken(
                "command_once", f"command {line.command} was recorded before, as version {self.commands[line.command]}"
            )

    def check_time(self, line: Append) -> None:
        """Check that the record is not older than the one before.

        Raises:
            Broken: it is.
        """
        if line.at_ms < self.at_ms:
            raise Broken("format", f"{line.event} was recorded at {line.at_ms}, after a record of {self.at_ms}")

    def advance(self, line: Append, process: Process) -> None:
        """Take the record, which was checked."""
        self.at_ms = line.at_ms
        self.version = line.version
        self.commands[line.command] = line.version
        self.bounds[process.number] = max(self.bounds[process.number], 0)

    def ack(self, line: Ack, process: Process) -> None:
        """Process an answer to a caller.

        Raises:
            Broken: the answer is not in the log, or older than an earlier one.
        """
        if self.commands.get(line.command) != line.version:
            _unlogged(line, self.version)
        see(self, line.view, process, line.version)


class Ended:
    """The rest of an instance that has ended and whose earlier versions no process can show any more."""

    __slots__ = ("bounds", "commands", "instance", "version")

    ended: Final = True

    def __init__(self, whole: Versions) -> None:
        self.instance = whole.instance
        self.version = whole.version
        self.bounds = whole.bounds
        # In version order. A hash takes an eighth of an id's memory; collisions within one instance are unlikely.
        self.commands = array("q", map(hash, whole.commands))

    @property
    def name(self) -> str:
        """The name of the instance in stories."""
        return " ".join(self.instance)

    def begin_life(self, process: Process) -> None:
        """See :meth:`Versions.begin_life`."""
        self.bounds[process.number] = self.version

    def ack(self, line: Ack, process: Process) -> None:
        """See :meth:`Versions.ack`."""
        if not 0 < line.version <= self.version or self.commands[line.version - 1] != hash(line.command):
            _unlogged(line, self.version)
        see(self, line.view, process, line.version)

    def append(self, line: Append) -> NoReturn:
        """Refuse every record."""
        check_follows(line, self)
        absorbed(line)

    def open(self, line: Open, process: Process) -> None:
        """Refuse every socket, because no connection is left."""
        see(self, line.view, process)
        raise Broken("open_guard", f"{socket_of(line)} opens, and {self.name} has ended")

    def gone(self, line: Close | Drop, process: Process) -> None:
        """Refuse it, because no socket is open."""
        del process
        not_open(line)


def check_follows(line: Append, instance: Versions | Ended) -> None:
    """Check that the record's version, and the one it was decided on, follow the last durable one.

    Raises:
        Broken: they don't.
    """
    if line.version != instance.version + 1:
        raise Broken(
            "versions_gapless",
            f"version {line.version} of {instance.name} was appended after version {instance.version}",
        )
    if line.view != line.version - 1:
        raise Broken("no_lost_update", f"version {line.version} was decided on version {line.view}")


def absorbed(line: Append) -> NoReturn:
    """Raise that the record comes after the end."""
    raise Broken(ABSORBED[line.kind], f"{line.event} was recorded after the end of {line.kind} {line.instance}")


def see(instance: Versions | Ended, view: int, process: Process, at_least: int = 0) -> None:
    """Check that a process may show version ``view``: it is durable, at least ``at_least``, and not older than shown before.

    Raises:
        Broken: it may not.
    """
    if view > instance.version or view < at_least:
        raise Broken(
            "cache_is_fold",
            f"version {view} of {instance.name} was told, but the log holds {several(instance.version, 'version')}"
            if view > instance.version
            else f"version {view} of {instance.name} was told as the answer to version {at_least}",
        )
    if view < instance.bounds[process.number]:
        raise Broken(
            "view_monotonic",
            f"version {view} of {instance.name} was told after version {instance.bounds[process.number]}",
        )
    instance.bounds[process.number] = view


def not_open(line: Close | Drop) -> NoReturn:
    """Raise that the socket is not open."""
    what = "closes" if type(line) is Close else "is dropped"
    raise Broken("open_guard", f"{socket_of(line)} {what}, and is not open there")


def several(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _unlogged(line: Ack, durable: int) -> NoReturn:
    held = f"only {several(durable, 'version')}" if line.version > durable else "another command there"
    raise Broken(
        "acknowledged_logged",
        f"{line.node} acknowledged command {line.command} as version {line.version} of {line.kind} {line.instance}, but the"
        f" log holds {held}",
    )
