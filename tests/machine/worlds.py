"""A small world for each lifecycle but the session's, and a walk through everything that can happen in it.

In each world there are a few commands, and every one of them is given to every reachable instance. What must become of it is
said by ``expects``, which reads the log the naive way and shares no code with ``machine``. The session's world is in
``test_exhaustive.py``: there, time matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import msgspec

from interlock.machine.account import account
from interlock.machine.account.commands import (
    ChangePassword,
    Delete,
    Disable,
    Enable,
    IssueResetCode,
    Register,
    Rehash,
    ResetPassword,
    SetGroups,
)
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import TransitionRefused
from interlock.machine.execution import execution
from interlock.machine.execution.commands import Accept, Cancel, Effects, Fail, Interrupt, Start, Succeed
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Command, Machine, Transition
from interlock.machine.secret.commands import Remove, added
from interlock.machine.secret.machine import SECRET_MACHINE
from interlock.machine.table import Guard

Log = tuple[Transition, ...]


class World(msgspec.Struct, frozen=True):
    """``promises`` maps a property to whether it holds for a log. Logs of ``length`` are not continued."""

    machine: Machine[Any]
    guards: Mapping[str, Guard[Any, Any]]
    commands: tuple[Any, ...]
    expects: Callable[[Log, Any], str | None]
    promises: Mapping[str, Callable[[Log], bool]]
    length: int


class Walked(msgspec.Struct):
    """What happened in a walk: every log that was reached, the rows recorded, and the guards that refused."""

    logs: list[Log] = []
    taken: set[tuple[str, str | None, str]] = set()
    refused_by: set[str | None] = set()


def walk(world: World) -> Walked:
    """Give every command to every instance that is reached, and check what becomes of it.

    Raises:
        AssertionError: a promise is broken: its name, and what was done to which instance.
    """
    walked = Walked()
    waiting: list[Log] = [()]
    while waiting:
        log = waiting.pop()
        walked.logs.append(log)
        for data in world.commands:
            after = _give(world, walked, log, data)
            if after is not None and len(after) < world.length:
                waiting.append(after)
    return walked


def _give(world: World, walked: Walked, log: Log, data: Any) -> Log | None:
    machine = world.machine
    before = machine.replay("i", log)
    image = msgspec.json.encode(before)
    expected = world.expects(log, data)
    try:
        step = machine.decide(before, Command(f"c{len(log)}", "test", data), len(log) + 1)
    except TransitionRefused as refused:
        walked.refused_by.add(refused.guard)
        _check("declared_only", expected is None, log, data)
        _check("refusal_changes_nothing", msgspec.json.encode(before) == image, log, data)
        return None
    after, log_after = machine.evolve(before, step), (*log, step)
    for name, holds in world.promises.items():
        _check(name, holds(log_after), log, data)
    _check("declared_only", step.target == expected == after.state, log, data)
    _check("versions_gapless", step.version == len(log_after) == after.version, log, data)
    fold = msgspec.json.encode(after)
    _check("replay_equals_state", machine.decode(fold.decode()) == after, log, data)
    walked.taken.add((step.event, step.source, step.target))
    return log_after


def _check(name: str, holds: bool, log: Log, data: Any) -> None:  # noqa: FBT001  # passed in order
    told = [f"{each.event}: {each.source} → {each.target}: {each.data}" for each in log]
    assert holds, "\n".join([f"{name} is broken. The instance so far, and the step:", *told, str(data)])


_HASHES: Final = ("A" * 43, "B" * 43)


def _account(log: Log, data: Any) -> str | None:
    if data.event in {"change_password", "rehash"} and log:
        hashes = [getattr(step.data, "new", None) or getattr(step.data, "password", None) for step in log]
        if [data.current] != [each for each in hashes if each][-1:]:
            return None
    if data.event == "issue_reset_code" and log and log[0].data.password is None:
        return None
    if data.event == "reset_password":
        since = [step.data for step in log if step.event in {"issue_reset_code", *account.RAISE_EPOCH}]
        if not since or getattr(since[-1], "until_ms", 0) <= len(log) + 1 or since[-1].code != data.code:
            return None
    return _ACCOUNT.get((data.event, log[-1].target if log else None))


_ACCOUNT: Final[dict[tuple[str, str | None], str]] = {
    ("register", None): "active",
    ("change_password", "active"): "active",
    ("rehash", "active"): "active",
    ("issue_reset_code", "active"): "active",
    ("reset_password", "active"): "active",
    ("set_groups", "active"): "active",
    ("set_groups", "disabled"): "disabled",
    ("disable", "active"): "disabled",
    ("enable", "disabled"): "active",
    ("delete", "active"): "deleted",
    ("delete", "disabled"): "deleted",
}


def _secret(log: Log, data: Any) -> str | None:
    if not log:
        return None if isinstance(data, Remove) else "present"
    return "removed" if isinstance(data, Remove) and len(log) == 1 else None


def accept(effects: Effects) -> Accept:
    """Return the acceptance of an intent with these effects."""
    return Accept("s", "acc_1", "notes", "notes.create", "i", "A" * 43, effects, "cancel", 1000)


_ENDS: Final = ("succeeded", "failed", "cancelled")


def _running(log: Log) -> tuple[str | None, int | None]:
    """Return node and number of the attempt that runs after ``log``."""
    starts = [step.data for step in log if isinstance(step.data, Start)]
    return (starts[-1].node, len(starts)) if log and isinstance(log[-1].data, Start) else (None, None)


def _execution(log: Log, data: Any) -> str | None:
    state = log[-1].target if log else None
    if data.event in {"succeed", "fail", "interrupt"} and (data.node, data.attempt) != _running(log):
        return None
    if (data.event, state) == ("interrupt", "running"):
        return "failed" if log[0].data.effects == "once" else "accepted"
    return _EXECUTION.get((data.event, state))


_EXECUTION: Final[dict[tuple[str, str | None], str]] = {
    ("accept", None): "accepted",
    ("start", "accepted"): "running",
    ("succeed", "running"): "succeeded",
    ("fail", "accepted"): "failed",
    ("fail", "running"): "failed",
    ("cancel", "accepted"): "cancelled",
    ("cancel", "running"): "cancelled",
}


def _one_outcome(log: Log) -> bool:
    return not [step for step in log[:-1] if step.target in _ENDS]


def _owner_only(log: Log) -> bool:
    *before, last = log
    named = (last.data.node, last.data.attempt) if isinstance(last.data, Succeed | Fail | Interrupt) else None
    return named in {None, _running(tuple(before))}


def _once_runs_once(log: Log) -> bool:
    return log[0].data.effects != "once" or [step.event for step in log].count("start") <= 1


_ATTEMPTS: Final = tuple((node, attempt) for node in ("n1", "n2") for attempt in (1, 2))

WORLDS: Final = (
    World(
        ACCOUNT_MACHINE,
        account.GUARDS,
        (
            Register(_HASHES[0], _HASHES[0]),
            Register(identity=_HASHES[0]),
            *(change(*hashes) for change in (ChangePassword, Rehash) for hashes in (_HASHES, _HASHES[::-1])),
            *(IssueResetCode(code, until_ms) for code, until_ms in zip(_HASHES, (100, 4), strict=True)),
            *(ResetPassword(code, _HASHES[1]) for code in _HASHES),
            SetGroups(("ops",)),
            Disable(),
            Enable(),
            Delete(),
        ),
        _account,
        {"deleted_absorbs": lambda log: "deleted" not in [step.source for step in log]},
        5,
    ),
    World(
        SECRET_MACHINE,
        {},
        (added("admin", "ada", b"a hash"), Remove()),
        _secret,
        {"removed_absorbs": lambda log: "removed" not in [step.source for step in log]},
        5,
    ),
    World(
        EXECUTION_MACHINE,
        execution.GUARDS,
        (
            *(accept(effects) for effects in get_args(Effects)),
            *(Start(node) for node in ("n1", "n2")),
            *(Succeed(*attempt, "B" * 43) for attempt in _ATTEMPTS),
            *(Fail("error", *attempt) for attempt in _ATTEMPTS),
            Fail("realm_missing"),
            *(Interrupt(*attempt) for attempt in _ATTEMPTS),
            Cancel("asked"),
        ),
        _execution,
        {"one_outcome": _one_outcome, "owner_only": _owner_only, "once_runs_once": _once_runs_once},
        6,
    ),
)
