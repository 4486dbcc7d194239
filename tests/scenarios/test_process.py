"""The server process: killed under load, stopped, started twice."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import statistics
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.client import Client, closed, hello, logged_in, new_email
from tests.support.effort import often
from tests.support.log import histories, interlock, projection, records, verify, write_lock
from tests.support.peer import Peer
from tests.support.running import eventually, run, scenario
from tests.support.server import ServerProcess, check_trace, running_server

LOST = (httpx.TransportError, OSError, websockets.WebSocketException, EOFError, AttributeError)
"""What a client sees when the server dies; AttributeError from anyio, if it was just connecting."""


class Load:
    """Clients that do everything concurrently, and record what the server acknowledged: (session id, version)."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.random = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        self.acknowledged: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()
        self.greeted = asyncio.Event()

    def keep(self, answer: dict[str, Any]) -> None:
        session_id = answer.get("session_id") or answer["instance_id"]
        self.acknowledged.add((session_id, answer["version"]))

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self.client(stop) for _ in range(16)))

    async def client(self, stop: asyncio.Event) -> None:
        async with Client(self.url) as tab:
            while not stop.is_set():
                with suppress(*LOST):
                    tab.tokens = {}
                    await self.life(tab)

    async def life(self, tab: Client) -> None:
        """Run one session, from its first page load to its end or the server's death."""
        tab.email = tab.email or new_email()
        self.keep((await tab.begin()).json())
        await tab.register(tab.email)
        answer = await tab.log_in(tab.email)
        if not answer.is_success:
            return
        self.keep(answer.json())
        async with tab.connect() as socket, tab.connect() as other:
            self.keep(await hello(socket))
            self.greeted.set()
            self.keep(await hello(other))
            for _ in range(self.random.randrange(6)):
                self.keep((await tab.refresh()).json())
            if self.random.random() < 0.5:
                await other.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    while True:
                        message = json.loads(await socket.recv())
                        if message["type"] == "transition":
                            self.keep(message)
            if self.random.random() < 0.5:
                await tab.request("POST", "/api/auth/logout")
                self.counts["logout"] += 1


@pytest.mark.checks("acknowledged_logged", "durability", "crashed_recovers")
@pytest.mark.slow
def test_kill_9_under_load_loses_nothing_acknowledged(data: Path) -> None:
    """kill -9 under load: every acknowledged transition is in the log, verify passes, orphans are disconnected.

    10 times, and 50 in ``make long``.
    The time until it is ready again is a figure of tests/bench: a busy machine is not a fault.
    """
    ready_s, orphans, acknowledged = [], 0, set()
    with running_server(data) as server:
        for turn in range(often(10, 50)):
            load = Load(server.url, turn)
            run(_kill_under(load, server, load.random.random() * 0.5))
            left = {
                (session_id, connection["connection_id"])
                for session_id, session in projection(data).items()
                for connection in session["connections"]
            }
            server.start()
            ready_s.append(server.started_in_s)
            assert not any(session["connections"] for session in projection(data).values())
            orphans += len(left)
            acknowledged |= load.acknowledged
        verify(data)
        found = histories(data)
        recorded = {(record["instance_id"], record["version"]) for history in found.values() for record in history}
        assert acknowledged <= recorded
        by_the_server = [
            record
            for history in found.values()
            for record in history
            if record["event"] == "disconnect" and record["data"]["code"] == 1006
        ]
        assert len(by_the_server) >= orphans > 0
    times = f"ready after {statistics.median(ready_s):.2f} s, at worst {max(ready_s):.2f} s"
    print(f"{len(acknowledged)} acknowledged, {orphans} orphans, {times}")  # noqa: T201  # a figure, for pytest -rP


async def _kill_under(load: Load, server: ServerProcess, after_s: float) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(load.run(stop))
    # On a busy machine it takes a while until there are sockets.
    await asyncio.wait_for(load.greeted.wait(), 60)
    await asyncio.sleep(after_s)
    stop.set()
    server.kill()
    await running


@scenario()
async def test_more_orphans_than_the_queue_holds_are_disconnected(data: Path) -> None:
    """A start repairs what a kill left, however small the server's queue is set."""
    with running_server(data, write_queue=3) as server:
        async with await logged_in(server.url) as client:
            await client.register(email := new_email())
            for _ in range(12):
                tab = client.sibling()
                await tab.log_in(email)
                await hello(await tab.connect())
            server.kill()
            server.start()
        assert Counter(record["event"] for record in records(data))["disconnect"] == 12
        verify(data)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@scenario()
async def test_a_stop_closes_sockets_with_1001_and_records_disconnects(data: Path, number: signal.Signals) -> None:
    """Every socket gets 1001, every disconnect is recorded, and the exit status is 0."""
    with running_server(data) as server:
        async with await logged_in(server.url) as client:
            sockets = [await client.connect() for _ in range(8)]
            for socket in sockets:
                await hello(socket)
            stopped = asyncio.create_task(asyncio.to_thread(server.stop, number))
            assert [await closed(socket) for socket in sockets] == [(1001, "draining")] * 8
            assert await stopped == 0
    assert Counter(record["event"] for record in records(data))["disconnect"] == 8
    assert projection(data)[client.session_id]["state"] == "authenticated"
    verify(data)


@pytest.mark.slow
@scenario()
async def test_a_stop_during_handshakes_closes_every_socket(data: Path) -> None:
    """Whenever the signal comes, every socket gets a close, none delays the stop, and none stays in the log."""
    for turn in range(5):
        server = ServerProcess(data, {"drain_s": 60})
        server.start()
        async with await logged_in(server.url) as client:
            await client.register(email := new_email())
            tabs = [client.sibling() for _ in range(24)]
            await asyncio.gather(*(tab.log_in(email) for tab in tabs))

            async def told(tab: Client) -> int:
                try:
                    async with tab.connect() as socket:
                        return (await closed(socket))[0]
                except websockets.InvalidStatus as refused:
                    return refused.response.status_code
                except (OSError, websockets.InvalidMessage, websockets.ConnectionClosed):
                    return 0  # it came too late to be heard at all

            handshakes = [asyncio.create_task(told(tab)) for tab in tabs]
            await asyncio.sleep(0.004 + turn * 0.012)
            async with asyncio.timeout(45):
                assert await asyncio.to_thread(server.stop) == 0
            assert {await handshake for handshake in handshakes} <= {1001, 503, 0}
        assert not any(session["connections"] for session in projection(data).values())
        check_trace(server.trace)
    verify(data)


@pytest.mark.slow
@scenario()
async def test_a_silent_peer_does_not_delay_a_stop(data: Path) -> None:
    """The drain ends: a peer that does not answer the close is recorded as disconnected, and the exit status is 0."""
    with running_server(data, drain_s=1) as server:
        async with await logged_in(server.url) as client, await Peer.open(server.socket_url, client.bearer) as peer:
            await peer.read()
            # Without this measure, an unanswered closing handshake would end after ten seconds too.
            async with asyncio.timeout(9):
                assert await asyncio.to_thread(server.stop) == 0
    assert [record["event"] for record in records(data)][-1] == "disconnect"
    verify(data)


def test_a_second_server_on_the_same_data_folder_is_refused(data: Path) -> None:
    """It reports at once who holds the folder and what to do, and exits with a failure; the first server is unaffected."""
    with running_server(data) as server:
        refused = interlock("serve", "--data", data, "--port", 0)
        assert refused.returncode == 2
        assert f"another server (process {server.pid})" in refused.stderr
        assert "--data" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert httpx.get(f"{server.url}/health/ready").status_code == 200
    verify(data)


def test_a_server_on_a_port_in_use_is_refused(data: Path, tmp_path: Path) -> None:
    """The same for the port: reported in one line, before the second folder is touched."""
    with running_server(data) as server:
        port = server.url.rpartition(":")[2]
        refused = interlock("serve", "--data", tmp_path / "other", "--port", port)
        assert refused.returncode == 2
        assert f"port {port}" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not (tmp_path / "other").exists()


@pytest.mark.slow
@scenario()
async def test_a_locked_database_file_loses_no_disconnect(data: Path) -> None:
    """Another program holds the file's lock for longer than a commit waits: callers get 503, events are written later."""
    with running_server(data) as server:
        async with await logged_in(server.url) as client:
            async with client.connect() as socket:
                await hello(socket)
                with write_lock(data):
                    await socket.close()
                    answer = await client.request(
                        "POST", "/api/auth/refresh", json={"refresh_token": client.refresh_token}
                    )
                    assert answer.status_code == 503
                    assert answer.json()["type"] == "urn:interlock:problem:overloaded"
            await eventually(lambda: not projection(data)[client.session_id]["connections"])
            assert (await client.refresh()).status_code == 200
        verify(data)


@pytest.mark.asvs("2.3.4")
@scenario()
async def test_concurrent_connects_can_not_exceed_the_servers_limit(data: Path) -> None:
    """Connects at the same moment can't exceed the server's cap; those that wait get in."""
    with running_server(data, connections_total=5) as server:
        async with await logged_in(server.url) as client:
            await client.register(email := new_email())
            tabs = [client.sibling() for _ in range(40)]
            await asyncio.gather(*(tab.log_in(email) for tab in tabs))
            sockets = []

            async def enter(tab: Client) -> int:
                try:
                    socket = await tab.connect()
                    await hello(socket)
                except websockets.InvalidStatus as refused:
                    return refused.response.status_code
                except websockets.ConnectionClosed as refused:
                    return refused.rcvd.code if refused.rcvd else 0
                sockets.append(socket)
                return 101

            outcomes = Counter(await asyncio.gather(*map(enter, tabs)))
            assert outcomes[101] == 5
            assert set(outcomes) <= {101, 503, 1013}
            for socket in sockets:
                await socket.close()
            await eventually(lambda: not any(s["connections"] for s in projection(data).values()))
            assert await enter(tabs[0]) == 101


@pytest.mark.slow
@scenario()
async def test_a_log_can_be_verified_while_the_server_writes_it(data: Path) -> None:
    """verify sees one moment of a growing log."""
    with running_server(data) as server:
        load, stop = Load(server.url, 0), asyncio.Event()
        running = asyncio.create_task(load.run(stop))
        for _ in range(5):
            await asyncio.to_thread(verify, data)
        stop.set()
        await running


@pytest.mark.checks("old_password_never_admits")
@pytest.mark.asvs("7.4.3")
@scenario()
async def test_a_login_with_the_old_password_does_not_survive_the_change(data: Path) -> None:
    """A login that raced the change of its password ends with the change."""
    chance = random.Random(6)  # noqa: S311  # a schedule, not a secret
    with running_server(data) as server:
        async with Client(server.url) as client:
            for _ in range(80):
                await client.register(email := new_email())
                owner, thief = client.sibling(), client.sibling()
                old = "correct horse battery staple"
                await owner.log_in(email)

                async def change(owner: Client = owner, old: str = old) -> httpx.Response:
                    await asyncio.sleep(chance.uniform(0, 0.006))
                    body = {"current_password": old, "new_password": f"{old}!"}
                    return await owner.request("POST", "/api/auth/password", json=body)

                async def log_in(thief: Client = thief, email: str = email) -> None:
                    await asyncio.sleep(chance.uniform(0, 0.01))
                    await thief.log_in(email)

                changed, _ = await asyncio.gather(change(), log_in())
                assert changed.status_code == 200
                assert not thief.tokens or (await thief.request("GET", "/api/session")).status_code == 401
        verify(data)


@scenario()
async def test_a_request_racing_its_sessions_end_gets_the_reason(data: Path) -> None:
    """Activity is being written when the session ends: the caller gets 401 and the reason, not a refused transition."""
    with running_server(data, idle_timeout_s=60) as server:
        async with Client(server.url) as client:
            await client.register(email := new_email())
            for _ in range(3):
                tab = client.sibling()
                await tab.log_in(email)
                body = {
                    "current_password": "correct horse battery staple",
                    "new_password": "correct horse battery staple",
                }
                with write_lock(data):
                    asked = [asyncio.create_task(tab.request("POST", "/api/auth/logout"))]
                    await asyncio.wait(asked, timeout=0.1)
                    asked += [
                        asyncio.create_task(tab.log_in(email)),
                        asyncio.create_task(tab.request("POST", "/api/auth/password", json=body)),
                        asyncio.create_task(tab.refresh()),
                    ]
                    await asyncio.wait(asked, timeout=0.3)
                ended = tab.session_id
                first, login, *others = await asyncio.gather(*asked)
                assert first.status_code == 204
                # The password suffices: only the bearer token belongs to an ended session.
                assert (login.status_code, login.json()["session_id"] == ended) == (200, False)
                for answer in others:
                    assert (answer.status_code, answer.json().get("reason")) == (401, "logout"), answer.text
