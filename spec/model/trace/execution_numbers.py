"""The conversion of an intent's trace lines to the numbers that the model reads (``intent.pml``, ``lines.h``).

Ids become facts: whether a command is new, and which attempt is named. Times are reduced to whether the session was overdue.
The model computes everything else.
"""

from __future__ import annotations

from typing import Any, Final

from interlock.spec.lifecycles import EXECUTION
from interlock.spec.model.trace.execution_rules import needs_session
from interlock.spec.model.trace.lines import Ack, AnyLine, Append, Recover
from interlock.spec.model.trace.numbers import LARGEST, Abstract, Numbers, TooWide
from interlock.spec.model.trace.split import IntentLines

_ATTEMPTS: Final = 250
"""How many attempts of one execution the model can count."""

_STATES: Final[dict[str | None, int]] = {
    None: 0,
    **{state.name: number for number, state in enumerate(EXECUTION.states, 1)},
}
_EVENTS: Final = {event.name: number for number, event in enumerate(EXECUTION.events, 1)}
_START, _RECOVER, _APPEND, _ACK, _END, _TOLD = range(1, 7)
_ONCE: Final = 1
_CANCELS: Final = 2
_STORES: Final = 4


def abstract(intent: IntentLines) -> Abstract:
    """Return the numbers of one intent.

    Raises:
        TooWide: the intent does not fit: the model has one server, so only one trace can be matched.
    """
    if len(intent.lines) != 1:
        raise TooWide
    numbering = _Numbering(intent)
    for index, line in enumerate(intent.lines[0]):
        numbering.take(index, line)
    numbers, origin = zip(*numbering.rows, strict=True)
    return Abstract(numbering.header, (numbers, ()), (origin, ()))


class _Numbering:
    """The numbers of the lines so far, each with the place of its line.

    ``_due``: a life has begun whose start the model has not been given yet. Its former life's late records come before that.
    """

    def __init__(self, intent: IntentLines) -> None:
        self._intent = intent
        self._life = ""
        self._lives: set[str] = set()
        self._due = self._again = False
        self._commands: dict[str, dict[str, int]] = {}
        self._running: tuple[str | None, int | None] = (None, None)
        self._attempt = 0
        self._absent = intent.absent
        self._end: AnyLine | None = None
        self.header = 0
        self.rows: list[tuple[Numbers, int]] = []

    def take(self, index: int, line: AnyLine) -> None:
        """Number the line at place ``index``."""
        late = isinstance(line, Append) and line.late
        if line.life != self._life:
            self._due = bool(self._life) or late or self._intent.early
            self._again = line.life in self._lives
            self._life = line.life
            self._lives.add(line.life)
        if not late:
            if self._absent:
                self._absent = False
                self.rows.append((Numbers(_END, claim=1, late=1), index))
            if self._due:
                self.rows.append((Numbers(_START, claim=not self._again), index))
            self._due = False
        number = self._number(index, line)
        if number is not None:
            self.rows.append((number, index))

    def _number(self, index: int, line: AnyLine) -> Numbers | None:
        match line:
            case Recover():
                return Numbers(_RECOVER, claim=1)
            case Append(kind="execution"):
                return self._record(index, line)
            case Append():
                self._end = line
                return Numbers(_END, claim=1, late=line.late)
            case Ack(kind="execution"):
                recorded = self._commands.get(line.instance, {}).get(line.command, 0)
                return Numbers(_ACK, command=recorded, version=line.version, view=line.view, claim=1)
        # The answer about the session's end. A start takes the end as acknowledged anyway.
        return Numbers(_TOLD, claim=1) if self._end is not None and self._end.life == line.life else None

    def _record(self, index: int, line: Append) -> Numbers:
        if line.event == "accept":
            effects = {"once": _ONCE, "transactional": _STORES}.get(line.data["effects"], 0)
            self.header = effects | (_CANCELS if line.data["on_session_end"] == "cancel" else 0)
        commands = self._commands.setdefault(line.instance, {})
        first = line.command not in commands
        commands.setdefault(line.command, line.version)
        named = self._named(line.data) if line.event in {"succeed", "fail", "interrupt"} else 0
        if line.event == "start":
            self._attempt += 1
            self._running = (line.data["node"], self._attempt)
            if self._attempt > _ATTEMPTS:
                raise TooWide
        served = line.event not in needs_session(cancels=self.header & (_CANCELS | _STORES) == _CANCELS)
        return Numbers(
            _APPEND,
            event=_EVENTS.get(line.event, 0),
            tab=named,
            version=line.version,
            view=line.view,
            source=_STATES.get(line.source, LARGEST),
            target=_STATES.get(line.target, LARGEST),
            alive=served or index not in self._intent.unserved,
            claim=index not in self._intent.misplaced,
            late=line.late,
            first=first,
            elsewhere=line.event == "start" and not line.late and line.data["node"] != line.node,
        )

    def _named(self, data: dict[str, Any]) -> int:
        """Return the attempt that the data names, 0 if it names none, or a number that no attempt has."""
        node, attempt = data.get("node"), data.get("attempt")
        if node is None and attempt is None:
            return 0
        return self._attempt if (node, attempt) == self._running else LARGEST
