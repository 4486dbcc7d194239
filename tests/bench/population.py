"""Writes logs of any size quickly: realistic sessions, through the writer's own statements, in big batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from interlock.machine.machine import Command
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Policy,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session, evolve
from interlock.server.ids import new_id, new_session_id
from interlock.server.surface.log import Step
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.surface.sqlite.log import Append, ChainHead, HeadLag, SqliteLog
from interlock.server.surface.sqlite.schema import migrate
from tests.bench.figure import Bench, now_ms

HOUR_MS: Final = 3_600_000
POLICY: Final = Policy(24 * HOUR_MS, 30 * 24 * HOUR_MS, 8, 10_000)
NODE: Final = "node-1"
_COHORT: Final = 1000
_BATCH: Final = 10_000


class RawWriter:
    """The writer's own statements on a separate connection, without queue, thread and event loop."""

    def __init__(self, folder: Path) -> None:
        self._database = open_writer(folder / LOG_NAME)
        migrate(self._database, MACHINES)
        self._connection: Any = self._database.conn
        # Only ``_write`` is used, which touches neither the writer nor the reader.
        self._log = SqliteLog(MACHINES, cast("Any", None), cast("Any", None), ChainHead(self._connection), HeadLag())

    def commit(self, steps: Sequence[Step]) -> None:
        """Write ``steps`` in one transaction, one unit each, as the writer thread does."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._log._write(self._connection, [Append((step,), ()) for step in steps])
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Checkpoint the log and close it."""
        self._connection.close()


def step_of(session: Session, data: Data, at_ms: int) -> Step:
    """Return the step that ``data`` causes."""
    transition = SESSION_MACHINE.decide(session, Command(new_id("cmd"), session.subject or "anonymous", data), at_ms)
    return Step(transition, evolve(session, transition))


def next_data(session: Session) -> Data:
    """Return an authenticated session's next step, in an endless cycle: connect, touch, refresh, disconnect."""
    match session.version % 4:
        case 2:
            return Connect(new_id("con"), NODE)
        case 3:
            return Touch()
        case 0:
            return Refresh(session.epoch, session.rotation)
    return Disconnect(session.connections[0].connection_id, 1000)


class Population(msgspec.Struct, frozen=True):
    """A log to write: the number of sessions, and of transitions in each.

    ``live``: one session in this many has not ended. ``left_connected``: one in this many holds a connection, as a killed
    server leaves it. ``span_ms``: the period, until now, in which the sessions began.
    """

    sessions: int
    transitions: int
    live: int = 1
    left_connected: int = 0
    span_ms: int = 2 * HOUR_MS
    policy: Policy = POLICY


def write(bench: Bench, folder: Path, population: Population) -> list[str]:
    """Write ``population`` into ``folder``. Return the ids of the sessions, oldest first."""
    raw = RawWriter(folder)
    ids: list[str] = []
    total = population.sessions * population.transitions
    written = 0
    for batch in _batches(_lives(population, ids)):
        raw.commit(batch)
        written += len(batch)
        bench.say(f"writing a log: {written:,} of {total:,} transitions")
    raw.close()
    return ids


def _batches(steps: Iterable[Step]) -> Iterator[list[Step]]:
    iterator = iter(steps)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch


def _lives(population: Population, ids: list[str]) -> Iterator[Step]:
    """Yield the steps of all sessions. A cohort of a thousand runs interleaved before the next one."""
    end_ms = now_ms() - 1000
    for first in range(0, population.sessions, _COHORT):
        numbers = range(first, min(first + _COHORT, population.sessions))
        at_ms = end_ms - population.span_ms + population.span_ms * first // population.sessions
        cohort = [SESSION_MACHINE.absent(new_session_id(at_ms)) for _ in numbers]
        cohort.sort(key=lambda session: session.session_id)
        ids += [session.session_id for session in cohort]
        for turn in range(population.transitions):
            for index, number in enumerate(numbers):
                step = step_of(cohort[index], _data(population, cohort[index], number, turn), at_ms + turn)
                cohort[index] = step.instance
                yield step


def _data(population: Population, session: Session, number: int, turn: int) -> Data:
    if turn == 0:
        return Create(population.policy)
    if turn == 1:
        return Authenticate(f"acc_{number:022d}", "password")
    if turn == population.transitions - 1:
        if population.left_connected and number % population.left_connected == 0:
            return Connect(new_id("con"), NODE)
        if number % population.live:
            return Revoke("logout")
        if session.connections:
            return Disconnect(session.connections[0].connection_id, 1000)
    return next_data(session)
