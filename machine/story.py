"""The history of an instance as text: what each record says, in the declaration's sentences, and the state at a given time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from interlock.machine.errors import TransitionRefused
from interlock.machine.explain import refusal
from interlock.machine.ledger import Record
from interlock.machine.machine import InstanceT, Machine
from interlock.machine.times import rfc3339


class StoryStep(msgspec.Struct, frozen=True):
    """One record as text. ``sentence`` describes the event, from the declaration; ``particulars`` is what the record adds."""

    version: int
    position: int
    at: str
    actor: str
    event: str
    source: str | None
    target: str
    sentence: str
    particulars: str


class EventOutcome(msgspec.Struct, frozen=True):
    """What one event would do: lead to ``target``, or be refused for the reason ``refused``."""

    event: str
    target: str | None
    refused: str | None


class Snapshot(msgspec.Struct, frozen=True):
    """An instance at the time ``at``, after ``version`` records: its state, and what ``stands`` says.

    ``events`` says what each event would do. In a ``final`` state none is possible any more.
    """

    at: str
    version: int
    state: str
    final: bool
    stands: dict[str, Any]
    events: list[EventOutcome]


def describe(
    machine: Machine[InstanceT], instance_id: str, records: Iterable[Record]
) -> tuple[list[StoryStep], InstanceT]:
    """Return ``records`` (all of one instance, from the first on) as steps, and the instance after them."""
    instance, steps = machine.absent(instance_id), []
    for record in records:
        steps.append(_step(machine, record, instance))
        instance = machine.evolve(instance, record.transition)
    return steps, instance


def snapshot(machine: Machine[InstanceT], instance: InstanceT, now_ms: int) -> Snapshot:
    """Return ``instance`` (at version 1 or later) as it is at ``now_ms``."""
    words = machine.words
    return Snapshot(
        at=rfc3339(now_ms),
        version=instance.version,
        state=instance.state or "",
        final=instance.state in machine.final,
        stands=words.stands(instance, now_ms),
        events=[
            _outcome(machine, instance, event.name, now_ms)
            for event in machine.lifecycle.events
            if event.name in words.likely
        ],
    )


def value_text(value: Any) -> str:
    """Return a value of ``stands`` as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {value_text(each)}" for name, each in msgspec.structs.asdict(value).items())
    return "none" if value is None else str(value)


def _step(machine: Machine[InstanceT], record: Record, before: InstanceT) -> StoryStep:
    move = record.transition
    return StoryStep(
        version=move.version,
        position=record.position,
        at=rfc3339(move.at_ms),
        actor=move.actor,
        event=move.event,
        source=move.source,
        target=move.target,
        sentence=next(event.description for event in machine.lifecycle.events if event.name == move.event),
        particulars=machine.words.particulars.get(move.event, _as_recorded)(move.data, before),
    )


def _outcome(machine: Machine[InstanceT], instance: InstanceT, event: str, now_ms: int) -> EventOutcome:
    data = machine.words.likely[event](instance, now_ms)
    try:
        return EventOutcome(event, machine.table.step(instance.state, event, instance, data, now_ms), None)
    except TransitionRefused as refused:
        return EventOutcome(event, None, refusal(machine, refused, instance, data).removeprefix("refused: "))


def _as_recorded(data: Any, _before: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(data).items())
