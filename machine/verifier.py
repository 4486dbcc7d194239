"""Verification of a whole log by replaying it in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.machine.errors import LedgerFault, TransitionRefused
from interlock.machine.explain import altered, article, out_of_place, refusal
from interlock.machine.ledger import GENESIS, StoredRow, fields_of, payload_digest
from interlock.machine.machine import Machine, Machines, Transition


class Verifier:
    """Read a log from its first record, and raise at the first record that the server would not have written.

    For each record it checks that positions have no gaps, the digest chain holds, the kind is known, versions have no gaps,
    the source is the previous state, the event, its guards (evaluated at the recorded time on the fold so far) and the target
    are declared, and no command id repeats within an instance.

    ``live`` is the fold of every instance that has not ended, by kind and id. ``feed`` returns an ended instance once and then
    drops it, so memory grows with the live instances, not with history. ``begun`` returns whether the log holds the first
    record of an instance (kind, id) before a position. It is called at the beginning of each instance.
    """

    __slots__ = ("_begun", "_commands", "_ended", "_machines", "head", "live", "position")

    def __init__(self, machines: Machines, begun: Callable[[str, str, int], bool]) -> None:
        self.position = 0
        self.head = GENESIS
        self.live: dict[tuple[str, str], Any] = {}
        self._machines = machines
        self._begun = begun
        self._ended = 0
        self._commands: dict[tuple[str, str], set[str]] = {}

    @property
    def instance_count(self) -> int:
        """The number of instances in the log so far."""
        return len(self.live) + self._ended

    def feed(self, row: StoredRow) -> tuple[Machine[Any], Any]:
        """Process the next row in order of position. Return its machine, and its instance after the row.

        Raises:
            LedgerFault: the row is wrong; the error names the position and the fault.
        """
        return self.feed_fields(fields_of(row))

    def feed_fields(self, row: tuple[Any, ...]) -> tuple[Machine[Any], Any]:
        """Process a row given as the database's plain tuple. It is a faster :meth:`feed` for logs of millions of records."""
        position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, text, digest = row
        key = (kind, instance_id)
        instance = self.live.get(key)
        if position != self.position + 1:
            raise LedgerFault(position, out_of_place(position, self.position))
        machine = self._machines.get(kind)
        if payload_digest(self.head, row[:-1]) != digest:
            before = instance
            if before is None and machine is not None and not self._begun(kind, instance_id, position):
                before = machine.absent(instance_id)
            raise LedgerFault(position, altered(kind, version, before))
        machine = machine or self._machines.of(position, kind)
        if instance is None:
            if self._begun(kind, instance_id, position):
                raise LedgerFault(position, f"the {kind} had ended before")
            instance = machine.absent(instance_id)
        data = machine.data_of(position, event, text)
        step = Transition(kind, instance_id, version, event, source, target, at_ms, actor, command_id, data)
        self._check(position, machine, instance, step)
        instance = machine.evolve(instance, step)
        if instance.state in machine.final:
            self.live.pop(key, None)
            del self._commands[key]
            self._ended += 1
        else:
            self.live[key] = instance
        self.position = position
        self.head = digest
        return machine, instance

    def _check(self, position: int, machine: Machine[Any], instance: Any, step: Transition) -> None:
        kind = step.kind
        if step.version != instance.version + 1:
            missing = "records of it are missing" if step.version > instance.version else "that was recorded before"
            raise LedgerFault(
                position, f"version {step.version} of {article(kind)} that is at {instance.version}: {missing}"
            )
        if step.source != instance.state:
            raise LedgerFault(position, f"source {step.source}, but the {kind} is {instance.state}")
        if step.at_ms < instance.updated_at_ms:
            raise LedgerFault(position, f"time runs backwards within the {kind}")
        try:
            target = machine.table.step(instance.state, step.event, instance, step.data, step.at_ms)
        except TransitionRefused as refused:
            raise LedgerFault(position, refusal(machine, refused, instance, step.data)) from None
        if target != step.target:
            raise LedgerFault(position, f"{step.event} from {step.source} leads to {target}, not to {step.target}")
        key = (kind, step.instance_id)
        commands = self._commands.get(key)
        if commands is None:
            self._commands[key] = {step.command_id}
            return
        if step.command_id in commands:
            raise LedgerFault(position, f"the command id was recorded before for this {kind}")
        commands.add(step.command_id)
