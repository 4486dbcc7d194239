"""The conversion of a session's trace lines to the numbers that the model reads (``trace.pml``, ``lines.h``).

Ids become small numbers, which are reused once no later line names the id. So sessions that did the same become the same
numbers. Times are reduced to the guards' results: whether the session was alive, and whether the claim (same subject, current
refresh token) was true. The fold in ``session_rules.py`` computes these; the model computes everything else.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from interlock.spec.lifecycles import SESSION
from interlock.spec.model.trace.lines import Ack, AnyLine, Append, Close, Drop, Open, Recover
from interlock.spec.model.trace.numbers import LARGEST, Abstract, Numbers, TooWide
from interlock.spec.model.trace.session_facts import FOLDS, GUARDS
from interlock.spec.model.trace.session_rules import Fold

TABS: Final = 16
"""How many concurrent connections the model can distinguish."""
COMMANDS: Final = 30
"""How many concurrent commands the model can distinguish."""
NODES: Final = 2
"""How many traces of one log the model can take."""

_STATES: Final[dict[str | None, int]] = {
    None: 0,
    **{state.name: number for number, state in enumerate(SESSION.states, 1)},
}
_EVENTS: Final = {event.name: number for number, event in enumerate(SESSION.events, 1)}
_NEVER: Final = 1 << 60
_START: Final = Numbers(1)


def abstract(session: Sequence[Sequence[AnyLine]]) -> Abstract:
    """Return the numbers of one session, given as in :func:`interlock.spec.model.trace.split.by_session`.

    Raises:
        TooWide: the session does not fit.
    """
    if len(session) > NODES:
        raise TooWide
    facts = _facts([line for lines in session for line in lines if isinstance(line, Append)])
    single = len(session) == 1
    tabs, commands = _Slots(TABS), _Slots(COMMANDS)
    for lines in session:
        for index, line in enumerate(lines):
            if isinstance(line, Append | Ack):
                commands.mention(line.command, index if single else _NEVER)
            if (connection := _connection(line)) is not None:
                tabs.mention(connection, index if single and connection in facts.given_up else _NEVER)
    nodes, origins = [], []
    for lines in session:
        numbers: list[Numbers] = []
        origin: list[int] = []
        life = ""
        lives: set[str] = set()
        recoveries = {line.life for line in lines if isinstance(line, Recover)}
        for index, line in enumerate(lines):
            if line.life != life:
                # A life must recover before it continues a session of its former life. A new session has no former life.
                former = bool(life) or line.life in recoveries or (isinstance(line, Append) and line.late)
                numbers.append(_START._replace(claim=former, elsewhere=line.life in lives))
                origin.append(index)
                life = line.life
                lives.add(life)
            number = _numbers(line, facts, tabs, commands, index)
            # With several nodes the order of their lines is unknown, so each number is used only once.
            numbers.append(number if single else number._replace(first=False, fresh=False))
            origin.append(index)
        nodes.append(tuple(numbers))
        origins.append(tuple(origin))
    nodes += [()] * (NODES - len(nodes))
    origins += [()] * (NODES - len(origins))
    return Abstract(facts.connection_limit, tuple(nodes), tuple(origins))


class _Facts:
    """The guards' results for each record, and the connections that were disconnected."""

    def __init__(self, connection_limit: int) -> None:
        self.connection_limit = connection_limit
        self.alive: dict[int, bool] = {}
        self.claim: dict[int, bool] = {}
        self.given_up: set[str] = set()


_CLAIMS: Final = {"reauthenticate": "same_subject", "refresh": "rotation_honoured"}


def _facts(records: list[Append]) -> _Facts:
    policy = next((record.data["policy"] for record in records if record.event == "create"), None)
    facts = _Facts(min(policy["connection_limit"], LARGEST) if policy else 0)
    fold = Fold("", 1)
    for record in sorted(records, key=lambda record: record.version):
        facts.alive[id(record)] = GUARDS["alive"](fold, record.data, record.at_ms)
        claim = _CLAIMS.get(record.event)
        facts.claim[id(record)] = claim is None or GUARDS[claim](fold, record.data, record.at_ms)
        if record.event == "disconnect":
            facts.given_up.add(record.data["connection_id"])
        if record.event in FOLDS and (fold.policy or record.event == "create"):
            FOLDS[record.event](fold, record.data, record.at_ms)
    return facts


class _Slots:
    """Small numbers for ids. An id gets the smallest free number at its first mention, which is freed after the last."""

    def __init__(self, count: int) -> None:
        self._last: dict[str, int] = {}
        self._free = list(range(count))
        self._held: dict[str, int] = {}
        self._expiring: list[tuple[int, str]] = []

    def mention(self, name: str, index: int) -> None:
        """Note that ``name`` occurs at ``index``. Call it for all mentions, in order, before :meth:`number`."""
        self._last[name] = max(index, self._last.get(name, 0))

    def number(self, name: str, index: int) -> tuple[int, bool]:
        """Return the number of ``name`` at ``index``, and whether this is its first mention.

        Raises:
            TooWide: no number is free.
        """
        while self._expiring and self._expiring[0][0] < index:
            heapq.heappush(self._free, self._held.pop(heapq.heappop(self._expiring)[1]))
        if name in self._held:
            return self._held[name], False
        if not self._free:
            raise TooWide
        self._held[name] = heapq.heappop(self._free)
        heapq.heappush(self._expiring, (self._last[name], name))
        return self._held[name], True


def _connection(line: AnyLine) -> str | None:
    if isinstance(line, Append):
        return str(line.data["connection_id"]) if line.event in {"connect", "disconnect"} else None
    return line.connection if isinstance(line, Open | Close | Drop) else None


def _numbers(line: AnyLine, facts: _Facts, tabs: _Slots, commands: _Slots, index: int) -> Numbers:
    connection = _connection(line)
    tab, fresh = tabs.number(connection, index) if connection is not None else (0, False)
    match line:
        case Recover():
            return Numbers(2)
        case Append():
            command, first = commands.number(line.command, index)
            return Numbers(
                3,
                event=_EVENTS.get(line.event, 0),
                tab=tab,
                command=command + 1,
                version=line.version,
                view=line.view,
                source=_STATES.get(line.source, LARGEST),
                target=_STATES.get(line.target, LARGEST),
                alive=facts.alive[id(line)],
                claim=facts.claim[id(line)],
                late=line.late,
                first=first,
                elsewhere=not line.late and line.event == "connect" and line.data["node"] != line.node,
                fresh=fresh,
            )
        case Ack():
            command, first = commands.number(line.command, index)
            return Numbers(4, command=command + 1, version=line.version, view=line.view, first=first)
        case Open():
            return Numbers(5, tab=tab, view=line.view, fresh=fresh)
    return Numbers(6, tab=tab, view=line.view, fresh=fresh)
