"""The service over SQLite under any commands in any order, crashed and reopened anywhere, as a Hypothesis state machine.

Invariants after each step: the session in memory equals the stored projection and the fold of its records; listeners
received each record once and in order; everything acknowledged is there; a refusal changed nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from interlock.machine.errors import CredentialInvalid, InterlockError, SessionEnded, SessionNotFound, TransitionRefused
from interlock.machine.ledger import Record
from interlock.machine.machine import Command
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.runtime.door import Recorded
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.recovery import disconnect_orphans
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.clock import HandClock
from tests.support.door import start
from tests.support.steps import POLICY

T = TypeVar("T")

SUBJECTS = st.sampled_from(["ada", "bob"])
CONNECTIONS = st.sampled_from(["con-1", "con-2", "con-3", "con-4"])
NODES = st.sampled_from(["node-1", "node-2"])
DATA: st.SearchStrategy[Data] = st.one_of(
    st.builds(Authenticate, SUBJECTS, st.just("password")),
    st.builds(Reauthenticate, SUBJECTS, st.just("password")),
    st.builds(Connect, CONNECTIONS, NODES),
    st.builds(Disconnect, CONNECTIONS, st.just(1000)),
    st.builds(Refresh, st.integers(0, 2), st.integers(0, 2)),
    st.just(Touch()),
    st.builds(Revoke, st.just("revoked")),
    st.builds(Expire, st.just("idle")),
)
BATCHES = st.lists(DATA, min_size=1, max_size=3)
NUMBERS = st.integers(0, 10**6)


class Service(RuleBasedStateMachine):
    """``acknowledged``: what callers were told was recorded. ``heard``: what listeners received, since the last start."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.root = Path(tempfile.mkdtemp(prefix="interlock-machine-"))
        self.starts = 0
        self.commands = 0
        self.known: list[str] = []
        self.asked: list[tuple[str, tuple[Command, ...]]] = []
        self.acknowledged: dict[str, dict[int, Record]] = {}
        self.heard: dict[str, list[tuple[Record, Session | None]]] = {}
        self.stack: AsyncExitStack
        self.log: TransitionLog
        self.sessions: Sessions

    def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def folder(self) -> Path:
        return self.root / f"data-{self.starts}"

    async def open(self) -> None:
        self.stack = AsyncExitStack()
        surface = await self.stack.enter_async_context(
            open_surface(self.folder, max_waiting=100, on_failure=self.failed, supervisor=Supervisor())
        )
        self.log = surface.log
        feed = Feed(self.log)
        self.sessions = Sessions(feed, self.clock, policy=POLICY, cache_limit=2)
        self.heard = {}
        feed.subscribe(
            lambda record, after: self.heard.setdefault(record.transition.instance_id, []).append((record, after))
        )
        await start(feed)

    @staticmethod
    def failed(failure: str) -> None:
        raise AssertionError(failure)

    def note(self, session_id: str, outcome: Recorded[Session]) -> None:
        noted = self.acknowledged.setdefault(session_id, {})
        for record in outcome.records:
            assert noted.setdefault(record.transition.version, record) == record, "one version, two records"

    def command(self, data: Data) -> Command:
        self.commands += 1
        return Command(f"cmd-{self.commands}", "tester", data)

    def pick(self, number: int) -> str:
        return self.known[number % len(self.known)]

    async def submit(self, session_id: str, asked: tuple[Command, ...]) -> Recorded[Session] | InterlockError:
        try:
            outcome = await self.sessions.submit(session_id, *asked)
        except InterlockError as refused:
            return refused
        self.note(session_id, outcome)
        return outcome

    @initialize()
    def start(self) -> None:
        self.run_async(self.open())

    @rule(more=st.lists(DATA, max_size=2))
    def begin(self, more: list[Data]) -> None:
        session_id = f"session-{len(self.known)}"
        self.known.append(session_id)
        asked = tuple(map(self.command, [Create(POLICY), *more]))
        self.asked.append((session_id, asked))
        outcome = self.run_async(self.submit(session_id, asked))
        if isinstance(outcome, TransitionRefused):
            assert self.run_async(self.log.load(SESSION_MACHINE, session_id)) is None, "all of a batch, or none"
            self.run_async(self.submit(session_id, (self.command(Create(POLICY)),)))
        assert self.run_async(self.log.load(SESSION_MACHINE, session_id)) is not None

    @precondition(lambda self: self.known)
    @rule(number=NUMBERS, batch=BATCHES)
    def ask(self, number: int, batch: list[Data]) -> None:
        session_id = self.pick(number)
        before = self.run_async(self.log.load(SESSION_MACHINE, session_id))
        asked = tuple(map(self.command, batch))
        self.asked.append((session_id, asked))
        outcome = self.run_async(self.submit(session_id, asked))
        after = self.run_async(self.log.load(SESSION_MACHINE, session_id))
        assert before is not None
        assert after is not None
        if isinstance(outcome, InterlockError):
            assert isinstance(outcome, TransitionRefused)
            assert after == before
        else:
            assert after == outcome.instance
            assert after.version == before.version + len(batch)

    @precondition(lambda self: self.asked)
    @rule(number=NUMBERS)
    def ask_the_same_again(self, number: int) -> None:
        """Repeat a recorded command: it is not recorded again, but answered, or refused because of later changes."""
        session_id, asked = self.asked[number % len(self.asked)]
        before = self.run_async(self.log.load(SESSION_MACHINE, session_id))
        history = self.run_async(self.log.history("session", session_id, 0, 1000))
        first = [record for record in history if record.transition.command_id == asked[0].command_id]
        if not first:
            return
        outcome = self.run_async(self.submit(session_id, asked))
        if isinstance(outcome, Recorded):
            assert outcome.records[0] == first[0]
            assert [record.transition.command_id for record in outcome.records] == [each.command_id for each in asked]
            assert outcome.instance == before
        else:
            assert isinstance(outcome, TransitionRefused)
        assert self.run_async(self.log.load(SESSION_MACHINE, session_id)) == before

    @precondition(lambda self: self.known)
    @rule(asked=st.lists(st.tuples(NUMBERS, DATA), min_size=2, max_size=8), cancelled=st.sets(st.integers(0, 7)))
    def ask_all_at_once(self, asked: list[tuple[int, Data]], cancelled: set[int]) -> None:
        async def race() -> None:
            tasks = [
                asyncio.create_task(self.submit(self.pick(number), (self.command(data),))) for number, data in asked
            ]
            await asyncio.sleep(0)
            for index in cancelled:
                if index < len(tasks):
                    tasks[index].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # A cancelled caller left the log at work: wait for it with another request.
            for session_id in {self.pick(number) for number, _ in asked}:
                await self.submit(session_id, (self.command(Touch()),))

        self.run_async(race())

    @precondition(lambda self: self.known)
    @rule(number=NUMBERS, epoch=st.integers(0, 2), rotation=st.integers(0, 4))
    def refresh(self, number: int, epoch: int, rotation: int) -> None:
        async def work() -> None:
            session_id = self.pick(number)
            try:
                outcome = await self.sessions.refresh(session_id, epoch, rotation, "tester")
            except SessionNotFound:
                assert await self.log.load(SESSION_MACHINE, session_id) is None
            except SessionEnded:
                ended = await self.sessions.load(session_id)
                assert ended.ended or self.clock.now_ms() >= ended.deadline_ms
            except CredentialInvalid:
                superseded = await self.sessions.load(session_id)
                assert (epoch, rotation) != (superseded.epoch, superseded.rotation)
            else:
                assert outcome.instance == await self.sessions.load(session_id)

        self.run_async(work())

    @rule(by_ms=st.sampled_from([1, 1_000, 6_000, 61_000]))
    def wait(self, by_ms: int) -> None:
        self.clock.time_ms += by_ms

    @rule()
    def stop_and_start(self) -> None:
        self.run_async(self.stack.aclose())
        self.run_async(self.open())
        self.recover()

    @precondition(lambda self: self.known)
    @rule(asked=st.lists(st.tuples(NUMBERS, DATA), max_size=6), turns=st.integers(0, 4))
    def crash_and_reopen(self, asked: list[tuple[int, Data]], turns: int) -> None:
        """Copy the files while work is in progress, and continue from them as after a power cut."""

        async def work() -> None:
            tasks = [
                asyncio.create_task(self.submit(self.pick(number), (self.command(data),))) for number, data in asked
            ]
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            told = {session_id: dict(records) for session_id, records in self.acknowledged.items()}
            left = self.folder
            self.starts += 1
            self.folder.mkdir()
            for name in ("interlock.db", "interlock.db-wal"):
                shutil.copy(left / name, self.folder / name)
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.stack.aclose()
            self.acknowledged = told
            await self.open()

        self.run_async(work())
        self.recover()

    def recover(self) -> None:
        async def work() -> None:
            for session_id, told in self.acknowledged.items():
                history = await self.log.history("session", session_id, 0, 10**6)
                assert history[: len(told)] == [told[version] for version in sorted(told)][: len(history)]
                assert len(history) >= max(told, default=0), "what was acknowledged stays"
            await disconnect_orphans(self.log, self.sessions, "node-1")
            assert not any(
                connection.node == "node-1"
                for session in await self.log.busy(SESSION_MACHINE)
                for connection in session.connections
            )

        self.run_async(work())

    @invariant()
    def one_truth(self) -> None:
        async def work() -> None:
            for session_id in self.known:
                projected = await self.log.load(SESSION_MACHINE, session_id)
                history = await self.log.history("session", session_id, 0, 10**6)
                if projected is None:
                    assert history == [], "a crash took it before it was acknowledged"
                    continue
                assert projected == SESSION_MACHINE.replay(session_id, (record.transition for record in history))
                assert self.sessions.cached(session_id) in {None, projected}
                assert await self.sessions.load(session_id) == projected
                heard = self.heard.get(session_id, [])
                assert [record for record, _ in heard] == history[len(history) - len(heard) :]
                if heard:
                    assert heard[-1][1] == projected
                for record in history:
                    self.acknowledged.setdefault(session_id, {})[record.transition.version] = record

        if self.starts or self.known:
            self.run_async(work())

    def teardown(self) -> None:
        try:
            self.run_async(self.stack.aclose())
            with open_archive(self.folder) as archive:
                list(archive.verify())
        finally:
            self.runner.close()
            shutil.rmtree(self.root)


TestService = pytest.mark.checks("replay_equals_state", "cache_is_fold")(pytest.mark.slow(Service.TestCase))
# Each example opens real files several times; CI's number of examples would take minutes here.
TestService.settings = settings(max_examples=min(settings().max_examples, 100), stateful_step_count=25)
