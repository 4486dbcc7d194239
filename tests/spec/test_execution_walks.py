"""Random traces of executions, decided by the machine: rules and model accept them, and agree about what is corrupted."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec

from interlock.machine.errors import TransitionRefused
from interlock.machine.execution.commands import Accept, Cancel, Data, Fail, Interrupt, Start, Succeed
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Command, Machine
from interlock.machine.session.commands import Authenticate, Create, Policy, Revoke
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.spec.model.trace.checker import check
from interlock.spec.model.trace.lines import Ack, Append, InstanceKind, Line, Recover, TraceFault
from interlock.spec.model.trace.validation import validate

NODE = "node-1"
_COMMITMENT = "A" * 43
_POLICY = Policy(idle_timeout_ms=60_000, absolute_timeout_ms=200_000, connection_limit=3, refresh_grace_ms=10)


class Server:
    """A correct server with one session, which is killed now and then, and its trace. ``own`` are the attempts of this life."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  # a test's choices
        self.lines: list[Line] = []
        self.held: dict[tuple[InstanceKind, str], Any] = {}
        self.position = self.commands = 0
        self.life = 1
        self.own: set[str] = set()
        self.late: list[Append] = []
        self.say_recovered()
        for data in (Create(_POLICY), Authenticate("ada", "password")):
            self.record("session", "s1", data)

    @property
    def executions(self) -> list[Execution]:
        return [held for (kind, _), held in self.held.items() if kind == "execution"]

    def say_recovered(self) -> None:
        self.lines.append(Recover(NODE, f"life-{self.life}", self.position))

    def record(self, kind: InstanceKind, instance_id: str, data: Data | Any, *, written: bool = True) -> bool:
        """Record ``data`` and say so, unless the server is killed before it has ``written`` the line."""
        machine: Machine[Any] = SESSION_MACHINE if kind == "session" else EXECUTION_MACHINE
        before = self.held.get((kind, instance_id)) or machine.absent(instance_id)
        self.commands += 1
        try:
            move = machine.decide(before, Command(f"c{self.commands}", "ada", data), 1_000 + self.position)
        except TransitionRefused:
            return False
        self.held[kind, instance_id] = machine.evolve(before, move)
        self.position += 1
        line = Append(
            NODE, f"life-{self.life}", kind, instance_id, move.command_id, move.version, move.version - 1, self.position,
            move.event, move.source, move.target, move.at_ms, msgspec.to_builtins(move.data),
        )  # fmt: skip
        if not written:
            self.late.append(line)
            return True
        self.lines.append(line)
        if self.random.random() < 0.8:
            version = move.version
            self.lines.append(Ack(NODE, line.life, kind, instance_id, move.command_id, version, version))
        return True

    @property
    def session_ended(self) -> bool:
        return bool(self.held["session", "s1"].ended)

    def do(self, *, written: bool = True) -> None:
        """Do something that the server may do now."""
        what = self.random.choice(["accept", "accept", "start", "start", "outcome", "outcome", "cancel", "end"])
        execution = self.random.choice(self.executions) if self.executions else None
        if what == "accept" and not self.session_ended:
            number = len(self.executions) + 1
            effects = self.random.choice(["once", "idempotent", "transactional"])
            ends = self.random.choice(["cancel", "finish"])
            accept = Accept("s1", "ada", "notes", "notes.create", f"i{number}", _COMMITMENT, effects, ends, 30_000)  # type: ignore[arg-type]  # from the lists
            self.record("execution", f"e{number}", accept, written=written)
        elif what == "end" and self.random.random() < 0.3 and not self.session_ended:
            self.record("session", "s1", Revoke("revoked"), written=written)
        elif execution is not None and execution.state == "accepted":
            if what == "start" and not self.session_ended:
                self.record("execution", execution.execution_id, Start(NODE), written=written)
                self.own.add(execution.execution_id)
            elif what == "cancel":
                data: Data = Cancel("asked") if self.random.random() < 0.5 else Fail("realm_missing")
                self.record("execution", execution.execution_id, data, written=written)
        elif execution is not None and execution.execution_id in self.own and execution.state == "running":
            self.end(execution, what, written=written)

    def end(self, execution: Execution, what: str, *, written: bool) -> None:
        """End an attempt. The end of the session counts, unless the realm's store has committed the result."""
        fenced = self.session_ended and execution.on_session_end == "cancel" and execution.effects != "transactional"
        succeed = Succeed(NODE, execution.attempt, _COMMITMENT)
        outcomes: list[Data] = [Fail("error", NODE, execution.attempt), *([] if fenced else [succeed, succeed])]
        data = Cancel("asked") if what == "cancel" else self.random.choice(outcomes)
        self.record("execution", execution.execution_id, data, written=written)

    def kill(self) -> None:
        """Kill the server, perhaps before it has said what it recorded last, and start it again."""
        for _ in range(self.random.randrange(3)):
            self.do(written=False)
        self.life += 1
        self.own.clear()
        self.lines += [msgspec.structs.replace(line, life=f"life-{self.life}", late=True) for line in self.late]
        self.late.clear()
        waiting = []
        for execution in self.executions:
            if execution.state == "running":
                if execution.effects == "transactional" and self.random.random() < 0.5:
                    waiting.append(execution)
                else:
                    self.settle(execution)
        self.say_recovered()
        for execution in waiting:
            self.settle(execution)

    def settle(self, execution: Execution) -> None:
        """Interrupt a lost attempt, or record the result that the realm's store has committed."""
        committed = execution.effects == "transactional" and self.random.random() < 0.5
        lost = Interrupt(NODE, execution.attempt)
        data = Succeed(NODE, execution.attempt, _COMMITMENT) if committed else lost
        self.record("execution", execution.execution_id, data)


def trace(seed: int) -> list[Line]:
    server = Server(seed)
    for _ in range(server.random.randrange(4, 40)):
        server.do()
        if server.random.random() < 0.08:
            server.kill()
    return server.lines


def corrupted(lines: list[Line], seed: int) -> tuple[str, list[Line]]:
    """Change one line about an execution. Positions stay in order, as in a trace that a server with this bug would write."""
    chosen = random.Random(seed)  # noqa: S311  # a test's choices
    places = [n for n, line in enumerate(lines) if isinstance(line, Append) and line.kind == "execution"]
    if not places:
        return "nothing", lines
    place = chosen.choice(places)
    line = lines[place]
    assert isinstance(line, Append)
    data = dict(line.data)
    if "attempt" in data:
        data["attempt"] = data["attempt"] + chosen.choice([-1, 1])
    elif "node" in data:
        data["node"] = "node-2"
    elif "effects" in data:
        data["effects"] = {"once": "idempotent", "idempotent": "once", "transactional": "once"}[data["effects"]]
    renamed = msgspec.structs.replace(line, command=f"{line.command}'")
    changes: dict[str, list[Line]] = {
        "left out": [],
        "recorded again": [line, msgspec.structs.replace(renamed, version=line.version + 1, view=line.view + 1)],
        "moved back": [],
        "of another attempt": [msgspec.structs.replace(line, data=data)],
        "another outcome": [msgspec.structs.replace(line, target="failed")],
        "not late": [msgspec.structs.replace(line, late=not line.late)],
    }
    how = chosen.choice(sorted(changes))
    rest = lines[place + 1 :]
    if how == "moved back":
        rest.insert(chosen.randrange(min(6, len(rest)) + 1), line)
    changed = [*lines[:place], *changes[how], *rest]
    position = 0
    for number, each in enumerate(changed):
        if isinstance(each, Append):
            position += 1
            changed[number] = msgspec.structs.replace(each, position=position, at_ms=1_000)
        elif isinstance(each, Recover):
            changed[number] = msgspec.structs.replace(each, position=position)
    return how, changed


def written(lines: list[Line]) -> list[bytes]:
    return [msgspec.json.encode(line) for line in lines]


def test_random_executions_are_accepted_by_rules_and_model() -> None:
    outcome = validate([(f"seed {seed}", [written(trace(seed))]) for seed in range(60)])
    assert outcome.faults == ()
    assert outcome.executions.different > 30


def test_rules_and_model_agree_about_corrupted_executions() -> None:
    """Independent checkers: a trace is bad for both or for neither."""
    kinds: Counter[tuple[str, bool]] = Counter()
    logs = []
    for seed in range(120):
        how, lines = corrupted(trace(seed), seed)
        text = written(lines)
        try:
            check([text])
        except TraceFault as fault:
            kinds[how, fault.property != "format"] += 1
        else:
            kinds[how, False] += 1
        logs.append((f"seed {seed}, {how}", [text]))
    outcome = validate(logs)
    assert [fault for fault in outcome.faults if "the rules" in fault] == []
    assert all(kinds[how, True] > 1 for how, _ in kinds if how != "nothing"), "each corruption has mattered"
