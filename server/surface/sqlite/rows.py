"""Conversion of instances and records to database rows and back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import StoredRow, fields_of
from interlock.machine.machine import InstanceT, Keys, Machine, Transition, id_of

_encode: Final = msgspec.json.Encoder().encode

TRANSITION_COLUMNS: Final = (
    "position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, data, digest"
)
_STATE: Final = {"state": "target", "version": "version", "updated_at_ms": "at_ms"}
"""Columns of an instance that its last transition has under another name."""

_CHANGING: Final = ("ended", *Keys.__struct_fields__, "fold")
INSTANCE_COLUMNS: Final = ", ".join((*_STATE, *_CHANGING, "created_at_ms", "instance_id"))

COMPARED_COLUMNS: Final = (
    f"{INSTANCE_COLUMNS}, (SELECT json_group_array(json_array(version, event, source, target, at_ms, data)) || ''"  # noqa: S608  # names of ours
    " FROM (SELECT t.version, event, source, target, at_ms, data FROM transitions AS t"
    " WHERE (t.kind, t.instance_id) = (instances.kind, instances.instance_id) ORDER BY t.version))"
)
"""The columns for :func:`compared`: the row and its history as one text. One row per record would take twice as long."""

_decode_history: Final = msgspec.json.Decoder(list[tuple[int, str, str | None, str, int, str]]).decode

_STEP_COLUMNS: Final = (*TRANSITION_COLUMNS.split(", "), *_CHANGING)
_NEW: Final = (
    {name: f"NEW.{name}" for name in (*_CHANGING, "kind", "instance_id")}
    | {name: f"NEW.{source}" for name, source in _STATE.items()}
    | {"created_at_ms": "NEW.at_ms"}
)
APPEND_STEPS: Final = (
    f"CREATE TEMP VIEW steps AS SELECT {', '.join(f'NULL AS {name}' for name in _STEP_COLUMNS)}",
    f"""
    CREATE TEMP TRIGGER append_step INSTEAD OF INSERT ON steps BEGIN
        INSERT INTO transitions ({TRANSITION_COLUMNS})
            VALUES ({", ".join(f"NEW.{name}" for name in TRANSITION_COLUMNS.split(", "))});
        INSERT INTO instances (kind, {INSTANCE_COLUMNS})
            SELECT NEW.kind, {", ".join(_NEW[name] for name in INSTANCE_COLUMNS.split(", "))} WHERE NEW.version = 1;
        UPDATE instances SET {", ".join(f"{name} = {_NEW[name]}" for name in (*_STATE, *_CHANGING))}
            WHERE kind = NEW.kind AND instance_id = NEW.instance_id AND NEW.version > 1;
    END""",  # noqa: S608  # column names of ours
)
"""Statements that a connection executes once, so that one statement can append any number of steps (record and projection).

The writer's thread releases the interpreter lock at every statement and waits to get it back. For every row SQLite runs this
trigger, and with it the triggers that guard both tables, before it takes the next row.
"""

STEP_WIDTH: Final = len(_STEP_COLUMNS)


@functools.cache
def insert_steps(count: int) -> str:
    """Return the statement that appends ``count`` steps. Its parameters are those of each :func:`step_values`, in order."""
    row = f"({', '.join('?' * STEP_WIDTH)})"
    return f"INSERT INTO steps VALUES {', '.join([row] * count)}"  # noqa: S608  # nothing but placeholders


def stored_row(row: tuple[Any, ...]) -> StoredRow:
    """Return the record in a row of TRANSITION_COLUMNS, unchecked."""
    return StoredRow(*row)


def step_values(row: StoredRow, machine: Machine[InstanceT], instance: InstanceT) -> tuple[Any, ...]:
    """Return the parameters of one step: its record, and the instance after it."""
    keys = machine.keys(instance)
    return (
        *fields_of(row),
        row.target in machine.final,
        keys.owner,
        keys.epoch,
        keys.deadline_ms,
        keys.reason,
        keys.busy,
        _encode(instance).decode(),
    )


def instance_from(machine: Machine[InstanceT], row: Sequence[Any]) -> InstanceT:
    """Return the instance in a row of INSTANCE_COLUMNS.

    Raises:
        SurfaceFailed: the row can't be read, or its columns contradict its fold, so no server has written it.
    """
    state, version, updated_at_ms, ended, owner, epoch, deadline_ms, reason, busy, fold, created_at_ms, instance_id = (
        row
    )
    try:
        instance = machine.decode(fold)
    except msgspec.MsgspecError as error:
        raise SurfaceFailed(f"the projection of {machine.kind} {instance_id} can't be read: {error}") from None
    keys = machine.keys(instance)
    if (
        (id_of(instance), instance.state, instance.version) != (instance_id, state, version)
        or (instance.created_at_ms, instance.updated_at_ms) != (created_at_ms, updated_at_ms)
        or (keys.owner, keys.epoch, keys.deadline_ms, keys.reason) != (owner, epoch, deadline_ms, reason)
        or (keys.busy, state in machine.final) != (busy, ended)
    ):
        raise SurfaceFailed(
            f"the projection of {machine.kind} {instance_id} contradicts itself: no server has written it"
        )
    return instance


def compared(machine: Machine[InstanceT], row: Sequence[Any]) -> InstanceT:
    """Return the instance in a row of COMPARED_COLUMNS, after comparing it with the replay of its records.

    Raises:
        SurfaceFailed: the two differ, or the row can't be read.
    """
    *columns, history = row
    instance_id = columns[-1]
    # A row or records that no server has written can cause any exception.
    with suppress(Exception):
        instance = instance_from(machine, columns)
        if machine.replay(instance_id, _transitions(machine, instance_id, history)) == instance:
            return instance
    raise SurfaceFailed(
        f"the projection of {machine.kind} {instance_id} differs from its log: something other than the server has changed"
        " it. Keep everything as it is, and look at it with `interlock verify`"
    )


def _transitions(machine: Machine[Any], instance_id: str, history: str) -> Iterator[Transition]:
    for version, event, source, target, at_ms, text in _decode_history(history):
        data = machine.data_of(0, event, text)
        yield Transition(machine.kind, instance_id, version, event, source, target, at_ms, "", "", data)


def reading(
    machine: Machine[InstanceT],
) -> tuple[str, Callable[[Machine[InstanceT], Sequence[Any]], InstanceT]]:
    """Return the columns to read of each instance, and the function that makes it. Lasting lifecycles are compared."""
    return (COMPARED_COLUMNS, compared) if machine.lasting else (INSTANCE_COLUMNS, instance_from)
