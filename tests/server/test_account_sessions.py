"""An account with many sessions: they are listed in pages, and all of them can be ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.machine.account.account import Account as Fold
from interlock.machine.account.commands import Disable
from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.machine.ledger import Receipt, Record
from interlock.machine.machine import Authority, InstanceT, Machine
from interlock.machine.session.commands import Authenticate, Reauthenticate, Revoke
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.guard.secrets import Secrets
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.administration import Caller
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.services import Services
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.log import Step
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.accounts import registered
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.door import start
from tests.support.inside import client_of
from tests.support.running import eventually
from tests.support.steps import POLICY
from tests.support.wire import services_in

CHANGED = Fold("ada", state="active", epoch=1)
"""Ada's account, after a change of the password."""


class Account:
    """The sessions of accounts over a log on disk, with a manual clock."""

    def __init__(self, sessions: Sessions, own: AccountSessions, clock: HandClock) -> None:
        self.sessions = sessions
        self.own = own
        self.clock = clock

    async def log_in(self, subject: str = "ada") -> Session:
        self.clock.time_ms += 1
        return (await self.sessions.begin(subject, Authenticate(subject, "password"))).instance


@asynccontextmanager
async def account(folder: Path, *, busy: int = 0) -> AsyncIterator[Account]:
    """Open an account. ``busy``: how many reads of a page are refused before the first succeeds."""
    async with open_surface(folder, max_waiting=20, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        clock = HandClock()
        feed = Feed(surface.log)
        sessions = Sessions(feed, clock, policy=POLICY, cache_limit=10)
        await start(feed)
        directory = surface.directory

        class BusyDirectory:
            refused = 0

            async def page(
                self, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
            ) -> list[InstanceT]:
                if self.refused < busy:
                    self.refused += 1
                    raise Overloaded(0)
                return await directory.page(machine, wanted, before, limit)

        yield Account(sessions, AccountSessions(sessions, BusyDirectory(), clock), clock)


@asynchronous
async def test_an_accounts_live_sessions_are_listed_newest_first(tmp_path: Path) -> None:
    async with account(tmp_path) as ada:
        overdue = await ada.log_in()
        ada.clock.time_ms += POLICY.idle_timeout_ms
        old, ended, new = [await ada.log_in() for _ in range(3)]
        await ada.log_in("bob")
        await ada.sessions.end(ended, "logout", "ada")
        assert overdue.deadline_ms <= ada.clock.time_ms
        assert await ada.own.page("ada", None, 10) == [new, old]
        assert await ada.own.page("ada", None, 1) == [new]
        assert await ada.own.page("ada", Cursor.of(new), 10) == [old]
        assert await ada.own.page("nobody", None, 10) == []


@pytest.mark.asvs("7.4.5")
@asynchronous
async def test_all_sessions_of_an_account_end_despite_overloaded_storage(tmp_path: Path) -> None:
    """There are three times as many as may be written at a time, and reads are refused at first too."""
    async with account(tmp_path, busy=2) as ada:
        living = [await ada.log_in() for _ in range(150)]
        others = await ada.log_in("bob")
        kept = living[70]
        receipts = await ada.own.end_all("ada", "password_changed", "ada", but=kept.session_id)
        assert len({receipt.position for receipt in receipts}) == 149
        assert await ada.own.page("ada", None, 1000) == [kept]
        assert await ada.own.page("bob", None, 1000) == [others]
        assert len(await ada.own.end_all("ada", "password_changed", "ada")) == 1
        assert await ada.own.end_all("ada", "password_changed", "ada") == []


class Stuck:
    """Refuses every end of the ``living`` sessions, or hangs if ``hangs``: a log whose head can't be written."""

    def __init__(self, account: Account, living: list[Session], *, hangs: bool = False) -> None:
        self.holds = True
        self.asked = 0
        self._hangs = hangs
        self._of = {session.session_id for session in living}
        self._append = account.sessions._log.append
        account.sessions._log.append = self.append  # type: ignore[method-assign]  # a stand-in log

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        if not self.holds or steps[0].transition.instance_id not in self._of:
            return self._append(steps, under)
        self.asked += 1
        future: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        if not self._hangs:
            future.set_exception(Overloaded(0))
        return future


@asynchronous
async def test_a_request_to_end_all_sessions_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with account(tmp_path) as ada:
        living = [await ada.log_in() for _ in range(100)]
        stuck = Stuck(ada, living)
        monkeypatch.setattr("interlock.server.runtime.accounts.account_sessions._PATIENCE_S", 0.1)
        with pytest.raises(Overloaded):
            await ada.own.end_all("ada", "revoked", "ada")
        assert await ada.own.end_superseded_at_last(CHANGED, "ada") == []
        await ada.own.close()
        assert stuck.asked, "those that go on were given up"
        assert await ada.own.end_superseded_at_last(CHANGED, "ada") == []
        stuck.holds = False

        async def all_ended() -> bool:
            return await ada.own.page("ada", None, 1) == []

        await eventually(all_ended)


@asynchronous
async def test_requests_to_end_all_do_not_delay_the_servers_own_work(tmp_path: Path) -> None:
    async with account(tmp_path) as ada:
        stuck = Stuck(ada, [await ada.log_in() for _ in range(100)], hangs=True)
        other = await ada.log_in("bob")
        ends = asyncio.create_task(ada.own.end_superseded(CHANGED, "ada", within_s=None))
        await eventually(lambda: stuck.asked == 64)
        async with asyncio.timeout(30):
            await ada.sessions.insist(other.session_id, "server", Revoke("revoked"))
        ends.cancel()
        await asyncio.wait([ends])


@asynchronous
async def test_a_login_during_the_ends_of_superseded_sessions_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session was read as one of the old password, and is one of the new when its end is to be recorded."""
    async with account(tmp_path) as ada:
        again, superseded = [(await ada.log_in()).session_id for _ in range(2)]
        end = ada.sessions.end

        async def overtaken(session: Session, *arguments: Any, **keywords: Any) -> Receipt | None:
            if session.session_id == again:
                login = Reauthenticate("ada", "password", account_epoch=CHANGED.epoch)
                await ada.sessions.submit(again, *commands("ada", login))
            return await end(session, *arguments, **keywords)

        monkeypatch.setattr(ada.sessions, "end", overtaken)
        assert len(await ada.own.end_superseded(CHANGED, "ada")) == 1
        assert (await ada.sessions.load(superseded)).ended
        assert not (await ada.sessions.load(again)).ended


@asynchronous
async def test_no_session_is_listed_once_the_log_has_stopped(tmp_path: Path) -> None:
    async with account(tmp_path) as ada:
        await ada.log_in()
        ada.sessions._log._writer.failure = "the disk is gone"  # type: ignore[attr-defined]  # SqliteLog's
        with pytest.raises(SurfaceFailed):
            await ada.own.page("ada", None, 1)
        with pytest.raises(SurfaceFailed):
            await ada.own.end_all("ada", "revoked", "ada")


async def logged_in(services: Services, subject: str, count: int) -> tuple[Session, dict[str, str]]:
    """Return the newest of ``count`` sessions of ``subject``, and its client's headers."""
    await registered(services, subject)
    for _ in range(count):
        session = (await services.sessions.begin(subject, Authenticate(subject, "password"))).instance
    return session, {"authorization": f"Bearer {services.tokens.access_token(session)}"}


@asynchronous
async def test_my_sessions_are_paged_by_the_link_header(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        newest, credential = await logged_in(services, "ada", 250)
        await logged_in(services, "bob", 3)
        seen: list[str] = []
        began: list[str] = []
        pages = 0
        link: str | None = "/api/sessions"
        while link is not None:
            answer = await http.get(link, headers=credential)
            assert answer.status_code == 200
            page = [row["session_id"] for row in answer.json()]
            assert len(page) <= 100
            pages += 1
            seen += page
            began += [row["created_at"] for row in answer.json()]
            link = answer.links.get("next", {}).get("url")
        assert began == sorted(began, reverse=True)
        assert newest.session_id in seen
        assert len(seen) == len(set(seen)) == 250
        assert pages == 3
        two = await http.get("/api/sessions?limit=2", headers=credential)
        assert [row["session_id"] for row in two.json()] == seen[:2]
        for query in ("limit=101", "limit=0", "after=x", "after=1", f"after=1.{'x' * 200}"):
            assert (await http.get(f"/api/sessions?{query}", headers=credential)).status_code == 400, query


@asynchronous
async def test_ending_one_session_reads_no_other(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        _, credential = await logged_in(services, "ada", 1)
        target = (await services.sessions.begin("ada", Authenticate("ada", "password"))).instance
        theirs = (await services.sessions.begin("bob", Authenticate("bob", "password"))).instance
        anonymous = (await services.sessions.begin("anonymous")).instance
        lists = 0
        page = services.administration._directory.page

        async def counted(
            machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
        ) -> list[InstanceT]:
            nonlocal lists
            lists += 1
            return await page(machine, wanted, before, limit)

        services.administration._directory.page = counted  # type: ignore[method-assign]  # a counter
        for other in (theirs.session_id, anonymous.session_id, "nobody"):
            answer = await http.delete(f"/api/sessions/{other}", headers=credential)
            assert kind(answer) == (404, "not-found"), other
        assert (await http.delete(f"/api/sessions/{target.session_id}", headers=credential)).status_code == 204
        assert kind(await http.delete(f"/api/sessions/{target.session_id}", headers=credential)) == (404, "not-found")
        assert lists == 0
        assert (await http.get("/api/sessions", headers=credential)).status_code == 200
        assert lists == 1, "a list would have been counted"
        assert not (await services.sessions.load(theirs.session_id)).ended
        assert (await services.sessions.load(target.session_id)).ended


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


@asynchronous
async def test_an_enable_waits_for_the_session_ends_of_a_disable(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, _ = await logged_in(services, "ada", 1)
        await services.accounts.ask("ada", "admin:eve", Disable())
        assert not (await services.sessions.load(session.session_id)).ended
        eve = services.admins.authenticate(Secrets(tmp_path / "keys", "admin").create("eve", 1))
        await services.administration.enable(
            "ada", Caller(eve.actor, None, partial(services.secret_records.acting, eve))
        )
        assert (await services.sessions.load(session.session_id)).reason == "account_disabled"
        assert (await services.accounts.load("ada")).state == "active"


@asynchronous
async def test_a_start_ends_many_superseded_sessions(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        await logged_in(services, "ada", 200)
        await services.accounts.ask("ada", "admin:eve", Disable())
    async with services_in(tmp_path) as services:
        assert await services.account_sessions.page("ada", None, 10) == []
