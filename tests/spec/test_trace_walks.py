"""Random session traces on two nodes, decided by the machine: they are accepted, and no corruption of them is."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import TransitionRefused
from interlock.machine.machine import Command
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Policy,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session, evolve
from interlock.spec.model.trace.checker import check
from interlock.spec.model.trace.lines import Ack, Append, Close, Drop, Line, Open, Recover, TraceFault

NODES = ("node-1", "node-2")
_POLICY = Policy(idle_timeout_ms=60, absolute_timeout_ms=200, connection_limit=3, refresh_grace_ms=10)


class Telling:
    """Two correct nodes over one log, and their trace. ``held``: which node holds which socket open."""

    def __init__(self) -> None:
        self.session: Session = SESSION_MACHINE.absent("s1")
        self.traces: dict[str, list[Line]] = {node: [Recover(node, f"life of {node}", 0)] for node in NODES}
        self.held: dict[str, str] = {}
        self.numbers = itertools.count(1)

    def tell(self, node: str, data: Data, now_ms: int) -> None:
        """Ask ``node`` for ``data``. A refusal is not traced."""
        try:
            move = SESSION_MACHINE.decide(self.session, Command(f"c{next(self.numbers)}", "ada", data), now_ms)
        except TransitionRefused:
            return
        self.session = evolve(self.session, move)
        if isinstance(data, Disconnect):
            node = self.held.pop(data.connection_id)
            self.say(Drop(node, f"life of {node}", "s1", data.connection_id, move.version - 1))
        life, version = f"life of {node}", move.version
        self.say(
            Append(
                node, life, "session", "s1", move.command_id, version, version - 1, version, move.event,
                move.source, move.target, move.at_ms, msgspec.to_builtins(move.data),
            )
        )  # fmt: skip
        if self.session.ended:
            for connection_id, holder in self.held.items():
                self.say(Close(holder, f"life of {holder}", "s1", connection_id, version, 4403))
        self.say(Ack(node, life, "session", "s1", move.command_id, version, version))
        if isinstance(data, Connect):
            self.held[data.connection_id] = node
            self.say(Open(node, life, "s1", data.connection_id, version))

    def say(self, line: Line) -> None:
        self.traces[line.node].append(line)

    def written(self) -> dict[str, list[bytes]]:
        return {node: written(lines) for node, lines in self.traces.items()}


def written(lines: list[Line]) -> list[bytes]:
    return [msgspec.json.encode(line) for line in lines]


_NAMES = st.sampled_from(["x", "y", "z"])
_CHANCES = st.sampled_from(["connect", "disconnect", "refresh", "touch", "login", "again", "expire", "revoke"])
_STEPS = st.lists(
    st.tuples(st.sampled_from(NODES), _CHANCES, _NAMES, st.sampled_from([0, 1, 5, 30])), min_size=1, max_size=40
)


def told(steps: list[tuple[str, str, str, int]]) -> Telling:
    """Trace a session with ``steps``: (node, what, which connection, ms that pass)."""
    telling = Telling()
    now_ms, opened = 1_000, itertools.count(1)
    telling.tell("node-1", Create(_POLICY), now_ms)
    telling.tell("node-1", Authenticate("ada", "password"), now_ms)
    for node, what, name, passes_ms in steps:
        now_ms += passes_ms
        session = telling.session
        known = [c.connection_id for c in session.connections if c.connection_id.startswith(name)]
        wanted: dict[str, Data] = {
            "connect": Connect(f"{name}{next(opened)}", node),
            "disconnect": Disconnect(known[0] if known else "nobody", 1000),
            "refresh": Refresh(session.epoch, session.rotation),
            "touch": Touch(),
            "login": Reauthenticate("ada", "password"),
            "again": Authenticate("ada", "password"),
            "expire": Expire("idle"),
            "revoke": Revoke("revoked") if passes_ms else Touch(),
        }
        telling.tell(node, wanted[what], now_ms)
    return telling


@given(_STEPS)
def test_traces_decided_by_the_machine_are_accepted(steps: list[tuple[str, str, str, int]]) -> None:
    telling = told(steps)
    summary = check(telling.written())
    assert (summary.sessions, summary.appends) == (1, telling.session.version)


@given(_STEPS, st.data())
def test_a_missing_doubled_moved_or_renumbered_trace_record_is_noticed(
    steps: list[tuple[str, str, str, int]], data: st.DataObject
) -> None:
    """Every record is acknowledged, so that not even the last can be missing."""
    traces = told([("node-1", what, name, ms) for _, what, name, ms in steps]).traces["node-1"]
    place = data.draw(st.sampled_from([n for n, line in enumerate(traces) if isinstance(line, Append)]))
    record = traces[place]
    assert isinstance(record, Append)
    corrupt: dict[str, list[Line]] = {
        "left out": [],
        "doubled": [record, record],
        "moved": [traces[place + 1], record],
        "renumbered": [msgspec.structs.replace(record, version=record.version + 1, view=record.view + 1)],
        "decided elsewhere": [msgspec.structs.replace(record, view=abs(record.view - 1))],
    }
    how = data.draw(st.sampled_from(sorted(corrupt)))
    rest = traces[place + (2 if how == "moved" else 1) :]
    check([written(traces)])
    with pytest.raises(TraceFault) as fault:
        check([written([*traces[:place], *corrupt[how], *rest])])
    assert fault.value.line >= place + 1


def test_the_checker_forgets_old_versions_of_a_session() -> None:
    telling = told([("node-1", "touch", "x", 0)] * 150 + [("node-2", "connect", "y", 0)] * 2)
    assert check(telling.written()).appends == 154
    assert check([written(told([("node-1", "touch", "x", 0)] * 150).traces["node-1"])]).appends == 152
    silent = [line for line in telling.traces["node-1"] if not isinstance(line, Ack)]
    assert check([written(silent)]).appends == 152, "who was never answered may still look back to the first"
    # A node that never mentioned the session may not begin with old versions.
    telling.say(Open("node-2", "life of node-2", "s1", "x", 3))
    with pytest.raises(TraceFault, match="view_monotonic"):
        check(telling.written())
    stranger: list[Line] = [Recover("node-3", "life of node-3", 0), Open("node-3", "life of node-3", "s1", "x", 3)]
    with pytest.raises(TraceFault, match="open_guard"):
        check([*told([("node-1", "touch", "x", 0)] * 150).written().values(), written(stranger)])
