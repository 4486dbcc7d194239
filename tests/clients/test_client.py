"""The Python client against a real server: sessions, connections over restarts, intents, and each way a session ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interlock import Client, Outcome
from interlock.client import (
    AnonymousSession,
    Connected,
    ConnectionStopped,
    Disconnected,
    End,
    LoggedInSession,
    NetworkFailed,
    Refused,
    ServerFailed,
    SessionOver,
    Transition,
)
from interlock.machine.session.view import SessionView
from tests.support.admin import Admin, admin_token
from tests.support.client import PASSWORD, new_email
from tests.support.errands import REALM
from tests.support.relay import relay_to
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("client") / "data", realm=REALM) as process:
        yield process


@asynccontextmanager
async def logged_in(url: str) -> AsyncIterator[LoggedInSession]:
    """Register an account, and yield a session of it."""
    async with Client(url) as client:
        email = new_email()
        await client.register(email, PASSWORD)
        yield await client.login(email, PASSWORD)


@scenario()
async def test_a_login_on_an_anonymous_session_keeps_its_id(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        email = new_email()
        registered = await client.register(email, PASSWORD)
        anonymous = await client.begin()
        assert (await anonymous.session()).state == "created"
        session = await anonymous.login(email, PASSWORD)
        assert session.session_id == anonymous.session_id
        assert await session.account() == registered
        assert [each.session_id for each in await session.sessions()] == [session.session_id]


@scenario()
async def test_a_server_below_a_path_is_used_as_any_other(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", base_path="/auth") as server:
        assert server.url.endswith("/auth")
        async with Client(f"{server.url}/") as client:
            email = new_email()
            await client.register(email, PASSWORD)
            for _ in range(3):
                session = await client.login(email, PASSWORD)
            calls = session._shell.calls
            token = await session.access_token()
            pages = await calls.pages("/api/sessions?limit=1", SessionView, token)
            assert [each.session_id for each in pages] == [each.session_id for each in await session.sessions()]
            async with session.connect():
                assert (await session.session()).connections == 1


@scenario()
async def test_a_kept_refresh_token_continues_the_session(server: ServerProcess) -> None:
    kept: list[str] = []
    email = new_email()
    async with Client(server.url, keep=kept.append) as client:
        await client.register(email, PASSWORD)
        session_id = (await client.login(email, PASSWORD)).session_id
        anonymous_id = (await client.begin()).session_id
    async with Client(server.url) as client:
        session = await client.resume(kept[0])
        assert isinstance(session, LoggedInSession)
        assert session.session_id == session_id
        await session.logout()
        anonymous = await client.resume(kept[1])
        assert isinstance(anonymous, AnonymousSession)
        assert anonymous.session_id == anonymous_id
        with pytest.raises(Refused) as refused:
            await client.resume(kept[0])
        assert refused.value.problem.name == "session-ended"


@scenario()
async def test_an_intent_streams_its_progress_and_returns_its_outcome(server: ServerProcess) -> None:
    async with logged_in(server.url) as session, session.connect() as connection:
        run = connection.intent("errands.say", {"text": "ho", "times": 2})
        assert (await run.accepted()).startswith("exe_")
        assert await run == Outcome(state="succeeded", result={"text": "hoho", "attempt": 1})
        assert await run == await run, "it may be awaited again"
        with pytest.raises(Refused) as refused:
            await connection.intent("errands.unknown", {})
        assert refused.value.problem.name == "intent-unknown"
        waiting = connection.intent("errands.wait", {})
        await waiting.accepted()
        waiting.cancel()
        assert (await waiting).reason == "asked"


@scenario()
async def test_intents_survive_a_connection_that_breaks_before_their_answer(server: ServerProcess) -> None:
    async with relay_to(server.url) as relay, logged_in(relay.url) as session, session.connect() as connection:
        events = connection.events()
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        relay.freeze()
        run = connection.intent("errands.say", {"text": "ho"}, intent_id="i1")
        await asyncio.sleep(0)
        relay.cut()
        relay.thaw()
        assert isinstance(await reading, Disconnected)
        assert (await run).state == "succeeded"
        assert isinstance(await anext(events), Connected)
        listed = await connection.intent("errands.say", {"text": "ho"}, intent_id="i1")
        assert listed.result == {"text": "ho", "attempt": 1}


@scenario()
async def test_a_connection_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM) as server:
        async with logged_in(server.url) as session, session.connect() as connection:
            waiting = connection.intent("errands.say", {"text": "before"})
            await waiting
            events = connection.events()
            reading = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            assert await reading == Disconnected(1006, "")
            with pytest.raises(NetworkFailed):
                await session.account()
            run = connection.intent("errands.say", {"text": "while it is away"})
            await asyncio.to_thread(server.start)
            assert (await run).state == "succeeded"
            assert not session.ended.done()


@scenario()
async def test_the_end_of_a_session_is_told_with_its_reason(server: ServerProcess) -> None:
    async with (
        logged_in(server.url) as session,
        Admin(server.url, admin_token(server.data)) as admin,
        session.connect() as connection,
    ):
        run = connection.intent("errands.wait", {})
        await run.accepted()
        events = asyncio.ensure_future(gathered(connection.events()))
        await asyncio.sleep(0)
        (await admin.http.delete(f"/sessions/{session.session_id}")).raise_for_status()
        assert await session.ended == End("revoked")
        with pytest.raises(SessionOver):
            await run
        with pytest.raises(SessionOver):
            await session.account()
        with pytest.raises(SessionOver):
            connection.intent("errands.wait", {})
        assert [each.event for each in await events if isinstance(each, Transition)] == ["revoke"]


async def gathered(events: AsyncIterator[object]) -> list[object]:
    return [each async for each in events]


@scenario()
async def test_a_logout_ends_the_session_and_wipes_the_tokens(server: ServerProcess) -> None:
    async with logged_in(server.url) as session, session.connect():
        await session.logout()
        assert await session.ended == End("logout")
        with pytest.raises(SessionOver):
            await session.access_token()
        await session.logout()


@scenario()
async def test_an_answer_that_comes_after_the_logout_is_dropped(server: ServerProcess) -> None:
    async with relay_to(server.url) as relay, logged_in(relay.url) as session, Client(server.url) as direct:
        relay.delay_s = 1
        slow = asyncio.create_task(session.account())
        await asyncio.sleep(0.1)
        # The same tokens over a way of its own: this logout overtakes.
        session._shell.calls, calls = direct._calls, session._shell.calls
        await session.logout()
        with pytest.raises((SessionOver, NetworkFailed)):
            await slow
        await calls.close()


@scenario()
async def test_a_changed_password_ends_other_sessions_and_keeps_this_one(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        email = new_email()
        await client.register(email, PASSWORD)
        here, there = await client.login(email, PASSWORD), await client.login(email, PASSWORD)
        async with here.connect() as connection, there.connect():
            await here.change_password(PASSWORD, f"{PASSWORD} again")
            assert await there.ended == End("password_changed")
            assert (await connection.intent("errands.say", {"text": "here"})).state == "succeeded"
        with pytest.raises(Refused) as refused:
            await client.login(email, PASSWORD)
        assert refused.value.problem.name == "credential-invalid"
        assert not here.ended.done()


@scenario()
async def test_tokens_are_refreshed_in_time_and_an_open_socket_stays_open(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", access_token_s=8) as server:
        async with logged_in(server.url) as session, session.connect() as connection:
            events = asyncio.ensure_future(gathered(connection.events()))
            seen = {await session.access_token()}
            async with asyncio.timeout(120):
                while len(seen) < 3:
                    seen.add(await session.access_token())
                    await session.account()
                    await asyncio.sleep(0.1)
            await session.logout()
            assert [each for each in await events if isinstance(each, Disconnected)] == []


@scenario()
async def test_a_displaced_connection_does_not_fight_for_its_place(tmp_path: Path) -> None:
    settings = {"connections_per_session": 1, "connections_policy": "displace"}
    with running_server(tmp_path / "data", **settings) as server:
        kept: list[str] = []
        async with Client(server.url, keep=kept.append) as client:
            email = new_email()
            await client.register(email, PASSWORD)
            session = await client.login(email, PASSWORD)
            async with session.connect() as first:
                other = await client.resume(kept[-1])
                assert isinstance(other, LoggedInSession)
                async with other.connect():
                    assert await gathered(first.events()) is not None
                    with pytest.raises(ConnectionStopped) as stopped:
                        first.intent("errands.wait", {})
                    assert stopped.value.code == 4409
                    assert not session.ended.done()


@scenario()
async def test_no_answer_and_a_wrong_answer_are_told_apart_from_a_refusal(server: ServerProcess) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\nproxy")
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as away:
        port = away.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ServerFailed) as wrong:
                await client.begin()
            assert wrong.value.status == 403
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(NetworkFailed):
            await client.begin()
    async with Client(server.url) as client:
        with pytest.raises(Refused) as refused:
            await client.login(new_email(), PASSWORD)
        assert refused.value.problem.recovery == "log_in"


@scenario()
async def test_every_wait_can_be_cancelled(server: ServerProcess) -> None:
    async with relay_to(server.url) as relay, logged_in(relay.url) as session:
        async with session.connect() as connection:
            run = connection.intent("errands.wait", {})
            await run.accepted()
            for wait in (run, session.ended, anext(aiter(run)), gathered(connection.events())):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(wait, 0.01)
        relay.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.account(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), session.connect():
                pass
        relay.thaw()
        assert (await session.account()).subject
