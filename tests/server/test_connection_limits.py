"""Limits on live connections, by session and by account: refuse a new one, or displace the oldest."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.session.session import Session
from interlock.server.experience.sockets.socket import Socket
from interlock.server.runtime.authenticator import Authentication
from interlock.server.runtime.connections import HeldConnection
from interlock.server.services import Services
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, hello, logged_in
from tests.support.running import eventually
from tests.support.server import running_server
from tests.support.wire import Wire, after_connect, events, greeted, log_in, services_in


async def admit(services: Services, session: Session, connection_id: str) -> Socket:
    found = Authentication(session, 1 << 50, services.keys.signing.kid)
    socket = Socket(services, connection_id, found, counted=True)
    await services.connection_limits.admit(found, connection_id, socket)
    return socket


async def history(client: Client) -> list[dict[str, Any]]:
    answer = await client.request("GET", "/api/session/transitions")
    rows: list[dict[str, Any]] = answer.raise_for_status().json()
    return rows


async def another_session(client: Client) -> Client:
    other = client.sibling()
    (await other.log_in(client.email)).raise_for_status()
    return other


@asynchronous
async def test_a_connection_over_the_accounts_limit_is_refused(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", connections_per_account=2) as server:
        async with await logged_in(server.url) as client:
            other = await another_session(client)
            async with client.connect() as first, other.connect() as second:
                await hello(first)
                await hello(second)
                for one in (client, other):
                    async with one.connect() as third:
                        assert await closed(third) == (4429, "too many connections")
                stranger = await logged_in(server.url, client.http)
                async with stranger.connect() as socket:
                    await hello(socket)
                await second.close()
                await eventually(lambda: held(other, 0))
                async with client.connect() as third:
                    await hello(third)


async def held(client: Client, count: int) -> bool:
    return int((await client.session())["connections"]) == count


@asynchronous
async def test_a_sessions_oldest_connection_is_displaced_and_recorded_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", connections_per_session=2, connections_policy="displace") as server:
        async with await logged_in(server.url) as client, client.connect() as first, client.connect() as second:
            oldest = (await hello(first))["connection_id"]
            await hello(second)
            async with client.connect() as third:
                newest = (await hello(third))["connection_id"]
                assert await closed(first) == (4409, "displaced by another connection")
                assert await held(client, 2)
                rows = await history(client)
                assert [row["event"] for row in rows[-2:]] == ["disconnect", "connect"]
                assert rows[-2]["data"] == {"connection_id": oldest, "code": 4409}
                assert rows[-1]["data"]["connection_id"] == newest
                assert rows[-2]["at"] == rows[-1]["at"], "decided together"
            await eventually(lambda: held(client, 1))
            ends = [row["data"]["connection_id"] for row in await history(client) if row["event"] == "disconnect"]
            assert sorted(ends) == sorted([oldest, newest])


@asynchronous
async def test_a_limit_of_one_lets_a_new_connection_take_over(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", connections_per_session=1, connections_policy="displace") as server:
        async with await logged_in(server.url) as client, client.connect() as first, client.connect() as second:
            await hello(first)
            await hello(second)
            assert (await closed(first))[0] == 4409
            assert [row["event"] for row in await history(client)][-3:] == ["connect", "disconnect", "connect"]
            assert (await client.session())["state"] == "connected"


@asynchronous
async def test_an_accounts_oldest_connection_is_displaced_across_sessions(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", connections_per_account=2, connections_policy="displace") as server:
        async with await logged_in(server.url) as client:
            other = await another_session(client)
            async with client.connect() as first, other.connect() as second, other.connect() as third:
                await hello(first)
                await hello(second)
                await hello(third)
                assert (await closed(first))[0] == 4409
                assert await held(client, 0)
                assert await held(other, 2)
                async with client.connect() as fourth:
                    await hello(fourth)
                    assert (await closed(second))[0] == 4409


@asynchronous
async def test_concurrent_connects_leave_as_many_as_the_limit(tmp_path: Path) -> None:
    with running_server(
        tmp_path / "data", connections_per_session=3, connections_per_account=4, connections_policy="displace"
    ) as server:
        async with await logged_in(server.url) as client:
            clients = [client, await another_session(client)]
            sockets = await asyncio.gather(*(clients[number % 2].connect() for number in range(24)))

            async def open_ones() -> bool:
                return 0 < sum([int((await each.session())["connections"]) for each in clients]) <= 4

            readers = [asyncio.create_task(closed(socket)) for socket in sockets]
            await eventually(open_ones)
            await asyncio.gather(*(socket.close() for socket in sockets))
            codes = [(await reader)[0] for reader in readers]
            assert set(codes) <= {1000, 4409, 4429}
            for each in clients:
                await eventually(functools.partial(held, each, 0))
                rows = await history(each)
                opened = [row["data"]["connection_id"] for row in rows if row["event"] == "connect"]
                ended = [row["data"]["connection_id"] for row in rows if row["event"] == "disconnect"]
                assert sorted(opened) == sorted(ended), "each end once"


@asynchronous
async def test_an_accounts_oldest_connection_may_leave_while_being_displaced(tmp_path: Path) -> None:
    async with services_in(tmp_path, connections_per_account=1, connections_policy="displace") as services:
        session, wire, running = await greeted(services)
        held_one = (await services.sessions.load(session.session_id)).connections[0].connection_id
        wire.leave()
        await running
        # As if its socket were still closing.
        services.connections._of_account["ada"] = {held_one: HeldConnection(session.session_id, held_one)}
        await admit(services, session, "con_1")
        assert (await events(services, session))[-3:] == ["connect", "disconnect", "connect"]


@asynchronous
async def test_a_sessions_oldest_connection_may_leave_while_being_displaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services_in(tmp_path, connections_per_session=1, connections_policy="displace") as services:
        session, _ = await log_in(services)
        sockets, load = [await admit(services, session, "con_1")], services.sessions.load

        async def load_and_leave(session_id: str) -> Session:
            now = await load(session_id)
            if sockets:
                sockets.pop().lost(1000)
                await asyncio.wait(services.tasks)
            return now

        monkeypatch.setattr(services.sessions, "load", load_and_leave)
        await admit(services, session, "con_2")
        assert (await events(services, session))[-3:] == ["connect", "disconnect", "connect"]


@asynchronous
async def test_a_connection_displaced_before_its_answer_is_closed(tmp_path: Path) -> None:
    async with services_in(tmp_path, connections_per_session=1, connections_policy="displace") as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        after_connect(services, lambda: admit(services, session, "con_2"))
        await wire.run()
        assert wire.said == ["accept", "hello", "close 4409 displaced by another connection"]
        assert (await events(services, session))[-3:] == ["connect", "disconnect", "connect"]


@asynchronous
async def test_arriving_connections_are_not_displaced(tmp_path: Path) -> None:
    async with services_in(tmp_path, connections_per_account=1, connections_policy="displace") as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        arriving = Socket(services, "con_1", Authentication(session, 1 << 50, services.keys.signing.kid), counted=True)
        with services.connections.arriving(session.session_id, "con_1", arriving, "ada"):
            await wire.run()
        assert wire.said == ["accept", "close 4429 too many connections"]


@asynchronous
async def test_a_socket_aborted_before_it_opens_is_closed_at_once(tmp_path: Path) -> None:
    """The last resort, should a listener fail while the connect is being recorded."""
    async with services_in(tmp_path) as services:
        _, token = await log_in(services)
        wire = Wire(services, token)
        after_connect(services, lambda: abort_all(services))
        await wire.run()
    assert wire.said[-1] == "close 1011 internal error"


async def abort_all(services: Services) -> None:
    for listeners in services.connections._listeners.values():
        for each in listeners.values():
            each[0].abort()
