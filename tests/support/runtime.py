"""The runtime of executions over a real database and a clock that a test moves, with realms that the test declares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from interlock.context import Context
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.session.commands import Authenticate, Policy, RevocationReason
from interlock.machine.session.machine import SESSION_MACHINE, authority_of
from interlock.machine.session.session import Session
from interlock.realm import Realm, Realms
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import commands
from interlock.server.runtime.executions.executions import Acceptance, Executions
from interlock.server.runtime.executions.live import ExecutionLimits
from interlock.server.runtime.executions.runner import Runner
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.recovery import trace_missed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.system.supervision import Supervisor
from interlock.server.telemetry.model_trace import FileTraceWriter, TraceWriter
from tests.support.accounts import AccountStory, personal
from tests.support.clock import HandClock
from tests.support.running import eventually
from tests.support.server import check_trace, new_trace

LIMITS = ExecutionLimits(session=100, account=100, realm=100, depth=4)
POLICY = Policy(idle_timeout_ms=3_600_000, absolute_timeout_ms=36_000_000, connection_limit=3, refresh_grace_ms=5_000)


NODE = "n1"


class Text(msgspec.Struct):
    """Parameters and results of the tests' intents."""

    text: str = ""


class Counted(msgspec.Struct):
    """Parameters that do not fit those of :class:`Text`."""

    count: int


class Bench:
    """The parts of one server process. ``calls`` holds the attempts of code, ``heard`` the values that it emitted."""

    def __init__(  # each by name
        self,
        surface: Surface,
        realms: Realms,
        clock: HandClock,
        *,
        node: str,
        limits: ExecutionLimits,
        trace: TraceWriter,
    ) -> None:
        self.surface = surface
        self.trace = trace
        self.clock = clock
        self.feed = Feed(surface.log)
        self.sessions = Sessions(self.feed, clock, policy=POLICY, cache_limit=1000, trace=trace)
        self.accounts = Accounts(self.feed, clock, surface.accounts, cache_limit=1000)
        self.executions = Executions(
            self.feed,
            clock,
            self.sessions,
            self.accounts,
            realms=realms,
            store=surface.executions,
            directory=surface.directory,
            limits=limits,
            cache_limit=1000,
            trace=trace,
        )
        self.late = 0
        self.submissions: list[str] = []
        self.heard: list[tuple[str, bytes]] = []
        self.interrupted = 0
        self.runner = Runner(
            self.executions,
            realms,
            clock,
            node=node,
            count_submission=self.submissions.append,
            on_late=self._count_late,
        )
        self.feed.subscribe(self.runner.observe, EXECUTION_MACHINE.kind)
        self.feed.subscribe(self.runner.observe_session, SESSION_MACHINE.kind)
        self.feed.subscribe(self.runner.observe_account, ACCOUNT_MACHINE.kind)
        self.runner.subscribe_progress(lambda execution, value: self.heard.append((execution.execution_id, value)))

    def _count_late(self) -> None:
        self.late += 1

    async def login(self, subject: str = "acc_1", *groups: str) -> Session:
        """Begin a session of ``subject``, whose account is registered if it is not."""
        account = await self.accounts.standing(subject)
        if account.version == 0:
            story = AccountStory(personal(subject, None), at_ms=self.clock.now_ms())
            await self.surface.log.append(story.register(self.surface.accounts.add(story.data), *groups))
            account = story.account
        login = Authenticate(subject, "exchange", account_epoch=account.epoch)
        return (await self.sessions.begin(subject, login)).instance

    async def submit(
        self, session: Session, name: str = "notes.create", text: str = "hello", *, intent_id: str = "i1"
    ) -> Acceptance:
        parameters = msgspec.json.encode(Text(text))
        return await self.executions.accept(session, authority_of(session), intent_id, name, parameters)

    async def run(self, session: Session, name: str = "notes.create", text: str = "hello", **ids: str) -> Execution:
        """Submit an intent, and return its execution once it has ended."""
        accepted = await self.submit(session, name, text, **ids)
        return await self.runner.outcome(accepted.execution.execution_id)

    async def cancel(self, session: Session, execution_id: str) -> Execution:
        return await self.runner.cancel(session, authority_of(session), execution_id)

    async def end(self, session: Session, reason: RevocationReason = "revoked") -> None:
        await self.sessions.end(session, reason, "server")

    async def events(self, execution_id: str) -> list[str]:
        return [each.transition.event for each in await self.executions.history(execution_id, 0, 100)]

    async def reached(self, execution_id: str, state: str) -> Execution:
        """Wait until the execution is in ``state``."""

        async def found() -> Execution | None:
            execution = await self.executions.load(execution_id)
            return execution if execution.state == state else None

        execution: Execution = await eventually(found)
        return execution

    async def account(self, subject: str, data: Any) -> None:
        """Record a change of an account."""
        along = self.surface.accounts.erase(subject) if data.event == "delete" else None
        await self.accounts.submit(subject, *commands("admin:ops", data), along=along)


@asynccontextmanager
async def bench(  # each by name
    folder: Path,
    *realms: Realm,
    node: str = NODE,
    limits: ExecutionLimits = LIMITS,
    clock: HandClock | None = None,
    max_waiting: int = 1000,
    ends: Literal["stops", "crashes", "forged"] = "stops",
) -> AsyncIterator[Bench]:
    """Run one server process over the database in ``folder``. At the end its log must verify, unless it is ``forged``.

    Its trace must hold, too. One process is traced: what a second one, with another ``node``, does to its executions shows in
    its own trace only.

    ``crashes``: at the end, stop all tasks as a crash would, so that nothing more is recorded.
    """
    path = folder / "trace.jsonl"
    if not path.is_symlink():
        path.symlink_to(new_trace(folder))
    if node != NODE:
        path.resolve().unlink(missing_ok=True)
        (folder / "untraced").touch()
    untraced = (folder / "untraced").exists()
    trace = TraceWriter() if untraced else FileTraceWriter(path, node)
    async with open_surface(
        folder, max_waiting=max_waiting, on_failure=pytest.fail, on_commit=trace.appended, supervisor=Supervisor()
    ) as surface:
        made = Bench(surface, Realms(realms), clock or HandClock(), node=node, limits=limits, trace=trace)
        await trace_missed(surface.log, trace)
        await made.feed.start(surface.last().position)
        made.interrupted = await made.runner.recover(surface.log)
        trace.recovered()
        made.runner.take_work()
        watching = asyncio.create_task(made.runner.run())
        try:
            yield made
        finally:
            watching.cancel()
            if ends == "crashes":
                for task in [*made.runner._drivers.values(), *made.runner._parts.codes]:
                    task.cancel()
            await made.runner.close()
    trace.close()
    if ends != "forged":
        with open_archive(folder) as archive:
            assert list(archive.verify())
        if not untraced:
            check_trace(path)


def notes(code: Any, *, name: str = "notes.create", **declared: Any) -> Realm:
    """Return a realm with one intent, which ``code(context, text)`` handles. It returns a text or None."""
    realm = Realm("notes", store=declared.pop("store", None))

    @realm.intent(name, **declared)
    async def handle(context: Context, parameters: Text) -> Text:
        returned = await code(context, parameters.text)
        return returned if isinstance(returned, Text) else Text(returned or "")

    return realm
