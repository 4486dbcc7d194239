"""Split traces into what the model is asked about: one session, or one intent with its execution.

A new life shows in the field ``life`` of the lines. A ``recover`` line belongs to no instance. It is added to each part that
has earlier lines in that trace, unless its end is among them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from interlock.spec.model.trace.checker import Traces, texts
from interlock.spec.model.trace.execution_rules import FINAL as EXECUTION_FINAL
from interlock.spec.model.trace.execution_rules import serves
from interlock.spec.model.trace.lines import Ack, AnyLine, Append, Recover, instance_of
from interlock.spec.model.trace.process import Reader, Text
from interlock.spec.model.trace.session_facts import FOLDS
from interlock.spec.model.trace.session_rules import FINAL, Fold

Lines = list[list[AnyLine]]
"""The lines of one part: one list per trace, in the order of the traces, each in its own order."""


class IntentLines(msgspec.Struct):
    """One subject's intent: the lines of its execution, and those of the end of its session: the record and its answer.

    ``unserved`` has the place, among a trace's lines, of each record at whose time the session was overdue or somebody else's,
    ``misplaced`` that of each late record that its life told after another line. ``absent``: the trace lacks the session.
    ``early``: the first line comes before the life that wrote it has recovered. ``over``: the execution has ended.
    """

    lines: Lines
    session_id: str = ""
    subject: str = ""
    unserved: set[int] = msgspec.field(default_factory=set)
    misplaced: set[int] = msgspec.field(default_factory=set)
    absent: bool = False
    early: bool = False
    over: bool = False


def by_session(traces: Traces) -> dict[str, Lines]:
    """Return the lines of each session, by id.

    Raises:
        TraceFault: ``format``: a line can't be read.
    """
    given = texts(traces)
    found: dict[str, Lines] = {}
    for number, text in enumerate(given):
        # The sessions that a recovery concerns, in order of their first line.
        living: dict[str, None] = {}
        for line in Reader(number, text):
            if isinstance(line, Recover):
                for session_id in living:
                    found[session_id][number].append(line)
                continue
            kind, session_id = instance_of(line)
            if kind != "session":
                continue
            lists = found.setdefault(session_id, [[] for _ in given])
            if not lists[number]:
                living[session_id] = None
            lists[number].append(line)
            if isinstance(line, Append) and line.target in FINAL:
                living.pop(session_id, None)
    return found


def by_intent(traces: Traces) -> dict[str, IntentLines]:
    """Return the lines of each intent, by the id of its execution. Two executions of one intent are one part.

    Raises:
        TraceFault: ``format``: a line can't be read.
    """
    given = texts(traces)
    found: dict[str, IntentLines] = {}
    for number, text in enumerate(given):
        _Splitter(found, number, len(given)).read(text)
    return found


class _Splitter:
    """Splits one trace into intents.

    ``_parts`` has the part of each subject's intent, ``_names`` that of each execution. ``_ends`` has the lines of each
    session's end, and ``_within`` the intents of each session.
    """

    def __init__(self, found: dict[str, IntentLines], number: int, traces: int) -> None:
        self._found = found
        self._number = number
        self._traces = traces
        self._parts: dict[tuple[str, str], str] = {}
        self._names: dict[str, str] = {}
        self._life = ""
        self._recovered = self._spoken = False
        self._sessions: dict[str, Fold] = {}
        self._ends: dict[str, list[AnyLine]] = {}
        self._within: defaultdict[str, list[IntentLines]] = defaultdict(list)

    def read(self, text: Text) -> None:
        """Read the whole trace."""
        for line in Reader(self._number, text):
            if line.life != self._life:
                self._life, self._recovered, self._spoken = line.life, False, False
            self._spoken = self._spoken or not (isinstance(line, Append) and line.late)
            if isinstance(line, Recover):
                self._recovered = True
                for intent in self._found.values():
                    if not intent.over and intent.lines[self._number]:
                        intent.lines[self._number].append(line)
                continue
            kind, instance_id = instance_of(line)
            if kind == "execution":
                self._of_execution(line, instance_id)
            elif isinstance(line, Append):
                self._of_session(line, instance_id)
            elif isinstance(line, Ack) and len(self._ends.get(instance_id, ())) == 1:
                self._end(instance_id, line)

    def _of_execution(self, line: AnyLine, execution_id: str) -> None:
        if isinstance(line, Append) and line.event == "accept":
            intent = self._accepted(line.data, execution_id)
        else:
            intent = self._part(execution_id)
        lines = intent.lines[self._number]
        if isinstance(line, Append):
            if line.late and self._spoken:
                intent.misplaced.add(len(lines))
            intent.over = line.target in EXECUTION_FINAL
            session = self._sessions.get(intent.session_id)
            if session is not None and not session.ended and not serves(session, intent.subject, line.at_ms):
                intent.unserved.add(len(lines))
        lines.append(line)

    def _part(self, execution_id: str) -> IntentLines:
        name = self._names.get(execution_id, execution_id)
        if name not in self._found:
            self._found[name] = IntentLines([[] for _ in range(self._traces)], early=not self._recovered)
        return self._found[name]

    def _accepted(self, data: dict[str, Any], execution_id: str) -> IntentLines:
        part = (data["subject"], data["intent_id"])
        self._names[execution_id] = self._parts.setdefault(part, execution_id)
        intent, session_id = self._part(execution_id), data["session_id"]
        if not intent.session_id:
            intent.session_id, intent.subject = session_id, data["subject"]
            intent.absent = session_id not in self._sessions
            intent.lines[self._number] += self._ends.get(session_id, [])
            self._within[session_id].append(intent)
        return intent

    def _of_session(self, line: Append, session_id: str) -> None:
        session = self._sessions.setdefault(session_id, Fold(session_id, 0))
        if line.event in FOLDS and (session.policy or line.event == "create"):
            FOLDS[line.event](session, line.data, line.at_ms)
        session.state = line.target
        if session.ended:
            self._end(session_id, line)

    def _end(self, session_id: str, line: AnyLine) -> None:
        self._ends.setdefault(session_id, []).append(line)
        for intent in self._within[session_id]:
            if not intent.over:
                intent.lines[self._number].append(line)
