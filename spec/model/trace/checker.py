"""Check line by line whether the declarations allow a trace of real servers.

Pass :func:`check` one trace per node, each an iterable of lines; the caller opens the files. It stops at the first fault, so
the lines up to it are the shortest bad prefix. Only what is wrong can be found, not what is missing: a server that stops in the
middle is no fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec

from interlock.spec.model.trace.execution_rules import Execution
from interlock.spec.model.trace.lines import (
    Ack,
    AnyLine,
    Append,
    Close,
    Drop,
    Instance,
    InstanceLine,
    Open,
    Recover,
    TraceFault,
    instance_of,
)
from interlock.spec.model.trace.process import Broken, Process, Reader, Text
from interlock.spec.model.trace.session_rules import Fold
from interlock.spec.model.trace.versions import Ended

Traces = Mapping[str, Text] | Iterable[Text]
"""One trace per node. The caller chooses the names of a mapping."""


class Summary(msgspec.Struct, frozen=True):
    """The amount that was checked: lines of all traces, sessions in them, records appended, and executions."""

    lines: int
    sessions: int
    appends: int
    executions: int = 0


def check(traces: Traces) -> Summary:
    """Check ``traces``, one for each node, all of the same log.

    Within a trace the lines keep their order. Between traces, a line waits until what it refers to is durable, and records are
    taken in the order of the log. If no trace can continue, the fault is the first waiting line.

    Raises:
        TraceFault: the first line that breaks a property.
    """
    given = texts(traces)
    checker = _Checker(len(given))
    readers = [Reader(number, text) for number, text in enumerate(given)]
    if len(readers) == 1:
        # A single trace never waits.
        (reader,) = readers
        while reader.line is not None:
            checker.take(reader, reader.line)
    else:
        _interleave(checker, readers)
    counts = Counter(kind for kind, _ in checker.instances)
    return Summary(sum(reader.number for reader in readers), counts["session"], checker.appends, counts["execution"])


def texts(traces: Traces) -> list[Text]:
    """Return the traces without their names."""
    return list(traces.values() if isinstance(traces, Mapping) else traces)


class _Checker:
    """The state of all instances after the lines taken so far. ``intents`` has the execution of each subject's intent."""

    def __init__(self, processes: int) -> None:
        self.instances: dict[Instance, Fold | Execution | Ended] = {}
        self.intents: dict[tuple[str, str], str] = {}
        self.appends = 0
        self._processes: Final = processes

    def take(self, reader: Reader, line: AnyLine) -> None:
        """Check ``line``, the reader's next one, and advance the reader.

        Raises:
            TraceFault: the line breaks a property.
        """
        try:
            self._judge(line, reader.process)
        except Broken as broken:
            # The life's name, because the line may have a wrong one.
            raise TraceFault(reader.number, reader.process.node, broken.property, broken.sentence) from None
        reader.advance()

    def waits(self, line: AnyLine) -> bool:
        """Return whether the line refers to something that is not durable yet, or, for a record, is not the instance's next."""
        if isinstance(line, Recover):
            return False
        known = self.instances.get(instance_of(line))
        durable = 0 if known is None else known.version
        if isinstance(line, Append):
            return line.version != durable + 1
        return line.view > durable or (isinstance(line, Ack) and line.version > durable)

    def _judge(self, line: AnyLine, process: Process) -> None:
        if line.life != process.life:
            self._begin_life(line, process)
        process.say(line)
        if isinstance(line, Recover):
            self._recover(line, process)
            return
        instance = self._instance(line)
        if isinstance(line, Append):
            self._append(line, process, instance)
            return
        if isinstance(line, Ack):
            instance.ack(line, process)
        else:
            # Only sessions have sockets.
            _socket(line, process, cast("Fold | Ended", instance))
        self._settle(instance)

    def _instance(self, line: InstanceLine) -> Fold | Execution | Ended:
        instance = instance_of(line)
        found = self.instances.get(instance)
        if found is not None:
            return found
        kind, instance_id = instance
        return (Fold if kind == "session" else Execution)(instance_id, self._processes)

    def _append(self, line: Append, process: Process, instance: Fold | Execution | Ended) -> None:
        if isinstance(instance, Ended):
            instance.append(line)
        elif isinstance(instance, Fold):
            instance.append(line, process)
        else:
            session = self.instances.get(("session", line.data.get("session_id", instance.session_id)))
            instance.append(line, process, session if isinstance(session, Fold | Ended) else None)
            self._accept_once(instance)
        self.instances[instance.instance] = instance
        self.appends += 1

    def _accept_once(self, execution: Execution) -> None:
        other = self.intents.setdefault(execution.intent, execution.instance[1])
        if other != execution.instance[1]:
            subject, intent_id = execution.intent
            raise Broken(
                "accepted_once",
                f"intent {intent_id} of {subject} was accepted as {execution.name}, and before as execution {other}",
            )

    def _begin_life(self, line: AnyLine, process: Process) -> None:
        process.begin_life(line)
        for instance in list(self.instances.values()):
            instance.begin_life(process)
            self._settle(instance)

    def _recover(self, line: Recover, process: Process) -> None:
        if process.recovered:
            raise Broken("crashed_recovers", f"{line.node} recovered twice in one life")
        for instance in self.instances.values():
            if not isinstance(instance, Ended):
                instance.recovered(process)
        process.recovered = True

    def _settle(self, instance: Fold | Execution | Ended) -> None:
        """Keep only the rest of an instance that is over, because traces are long."""
        if not isinstance(instance, Ended) and instance.settled:
            self.instances[instance.instance] = Ended(instance)


def _socket(line: Open | Close | Drop, process: Process, session: Fold | Ended) -> None:
    if isinstance(line, Open):
        session.open(line, process)
    else:
        session.gone(line, process)


def _interleave(checker: _Checker, readers: list[Reader]) -> None:
    """Take the lines of several traces: first all that need no later record, then the next record of the log."""
    while True:
        for reader in readers:
            while (line := reader.line) and not isinstance(line, Append | Recover) and not checker.waits(line):
                checker.take(reader, line)
        waiting = [(reader, reader.line) for reader in readers if reader.line is not None]
        if not waiting:
            return
        ready = [(reader, line) for reader, line in waiting if not checker.waits(line)]
        # If none can continue, judging the first one raises its fault.
        checker.take(*(min(ready, key=_place_in_log) if ready else waiting[0]))


def _place_in_log(next_line: tuple[Reader, AnyLine]) -> tuple[int, bool]:
    """Return a line's sort key. A recovery sorts after the record before it, or its node may seem to own what others ended."""
    line = next_line[1]
    return (line.position, isinstance(line, Recover)) if isinstance(line, Append | Recover) else (0, False)
