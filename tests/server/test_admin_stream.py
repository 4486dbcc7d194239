"""The live stream over a real server: no record is missing or repeated, and it ends when it must."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.response.streaming import ASGIStreamingResponse

from interlock.server.app import app_over
from tests.support.admin import Admin, admin_token, recorded_admin_token, remove_admin
from tests.support.asynchronous import asynchronous
from tests.support.client import Client
from tests.support.inside import client_of
from tests.support.log import BEGUN, records
from tests.support.raw import Raw, head, held
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server
from tests.support.small_buffers import small_buffers
from tests.support.wire import services_in

ADA = BEGUN + 1
"""The position of the record of an administrator's secret, on a new server."""


async def work(server: ServerProcess, sessions: int) -> None:
    """Run concurrent callers that create sessions and refresh them: three records each."""

    async def one() -> None:
        async with Client(server.url) as client:
            for _ in range(sessions // 4):
                (await client.begin()).raise_for_status()
                (await client.refresh()).raise_for_status()
                (await client.request("POST", "/api/auth/logout")).raise_for_status()

    await asyncio.gather(*(one() for _ in range(4)))


async def collect(admin: Admin, after: int, until: int, reconnect: random.Random | None = None) -> list[dict[str, Any]]:
    """Follow from ``after`` to position ``until``. Reconnect whenever ``reconnect`` says."""
    found: list[dict[str, Any]] = []
    place: dict[str, int] = {"after": after}
    while not found or found[-1]["position"] < until:
        async with admin.follow(**place) as stream:
            for _ in range(reconnect.randint(1, 40) if reconnect else 10**9):
                found.append(await stream.record())
                if found[-1]["position"] >= until:
                    break
        place = {"last_event_id": found[-1]["position"], "after": 0}
    return found


@scenario()
async def test_the_stream_has_every_record_once_in_order_over_reconnects(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, recorded_admin_token(server.data)) as admin:
            await work(server, 40)
            total = ADA + 40 * 3 + 200 * 3
            chance = random.Random(7)  # noqa: S311  # not a secret
            followers = [
                collect(admin, 0, total),
                collect(admin, 0, total, chance),
                collect(admin, 100, total, chance),
                collect(admin, 120, total, chance),
            ]
            *told, _ = await asyncio.gather(*followers, work(server, 200))
        logged = records(server.data)
        assert len(logged) == total
        for found, begin in zip(told, (0, 0, 100, 120), strict=True):
            assert found == logged[begin:]


@scenario()
async def test_without_a_position_the_stream_starts_with_new_records(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, recorded_admin_token(server.data)) as admin, Client(server.url) as client:
            await client.begin()
            async with admin.follow() as stream:
                waiting = asyncio.create_task(stream.record())
                # The stream is registered once its first line arrives.
                await eventually(lambda: stream.comments)
                await client.refresh()
                record = await waiting
                assert (record["position"], record["event"]) == (ADA + 2, "refresh")
            async with admin.follow(after=0) as stream:
                assert [(await stream.record())["position"] for _ in range(ADA + 2)] == list(range(1, ADA + 3))
            for answer in (
                await admin.http.get(f"/transitions/stream?after={ADA + 3}"),
                await admin.http.get("/transitions/stream", headers={"Last-Event-ID": str(ADA + 3)}),
                await admin.http.get("/transitions/stream", headers={"Last-Event-ID": "x"}),
            ):
                assert answer.status_code == 400, answer.text


@scenario()
async def test_a_stream_that_broke_before_its_first_record_misses_none(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, recorded_admin_token(server.data)) as admin, Client(server.url) as client:
            async with admin.follow() as stream:
                waiting = asyncio.create_task(stream.event())
                await eventually(lambda: stream.last_event_id == ADA)
                assert not waiting.done(), "no event"
                waiting.cancel()
            await client.begin()
            async with admin.follow(last_event_id=stream.last_event_id) as stream:
                assert (await stream.record())["position"] == ADA + 1


@scenario()
async def test_the_stream_resumes_after_a_restart(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, recorded_admin_token(server.data)) as admin, Client(server.url) as client:
            await client.begin()
            async with admin.follow(after=ADA) as stream:
                assert (await stream.record())["position"] == ADA + 1
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert await stream.end() == "draining"
                assert await stopping == 0
            server.start()
            await client.refresh()
            async with admin.follow(last_event_id=ADA + 1) as stream:
                assert (await stream.record())["position"] == ADA + 2


@pytest.mark.asvs("8.3.2")
@scenario()
async def test_the_stream_ends_when_its_secret_is_removed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        bob = Admin(server.url, recorded_admin_token(server.data, "bob"))
        async with Admin(server.url, recorded_admin_token(server.data)) as admin, bob, Client(server.url) as client:
            async with admin.follow() as stream, bob.follow() as other:
                remove_admin(server.data)
                assert await stream.end() == "credential-removed"
                assert (await other.record())["event"] == "remove"
                await client.begin()
                assert (await other.record())["event"] == "create"
            answer = await admin.http.get("/transitions/stream")
            assert answer.status_code == 401


@scenario()
async def test_the_stream_ends_when_the_secrets_are_unreadable(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, admin_token(server.data)) as admin, admin.follow() as stream:
            secret = server.data / "keys" / "admin-ada.secret"
            secret.chmod(0o644)
            secret.touch()
            assert await stream.end() == "unavailable"


@pytest.mark.slow
@scenario()
async def test_heartbeat_comments_keep_an_idle_stream_open(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with (
            Admin(server.url, recorded_admin_token(server.data)) as admin,
            Client(server.url) as client,
            admin.follow() as stream,
        ):
            waiting = asyncio.create_task(stream.record())
            await eventually(lambda: "heartbeat" in stream.comments, within_s=50)
            await client.begin()
            assert (await waiting)["event"] == "create"


@scenario()
async def test_the_number_of_concurrent_streams_is_limited(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = admin_token(server.data)
        async with Admin(server.url, secret) as admin:
            answers: list[httpx.Response] = []
            async with httpx.AsyncClient(timeout=60, headers=admin.http.headers) as http:
                for _ in range(16):
                    request = http.build_request("GET", f"{server.url}/api/admin/transitions/stream")
                    answers.append(await http.send(request, stream=True))
                assert {answer.status_code for answer in answers} == {200}
                refused = await admin.http.get("/transitions/stream")
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                await answers[0].aclose()

                async def room() -> bool:
                    request = http.build_request("GET", f"{server.url}/api/admin/transitions/stream")
                    answer = await http.send(request, stream=True)
                    answers.append(answer)
                    return answer.status_code == 200

                await eventually(room)
                for answer in answers:
                    await answer.aclose()


def stalled(server: ServerProcess, secret: str) -> socket.socket:
    """Open a stream of the whole log that is not read."""
    host, port = server.url.removeprefix("http://").split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    raw.settimeout(30)
    raw.sendall(
        f"GET /api/admin/transitions/stream?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
    )
    return raw


@asynchronous
async def test_a_stream_that_is_not_read_is_cut_and_delays_nobody(tmp_path: Path) -> None:
    with small_buffers(tmp_path / "data", send_timeout_s=0.5) as server:
        secret = admin_token(server.data)
        # More than the buffers in between take.
        await work(server, 200)
        with stalled(server, secret) as slow:
            async with Admin(server.url, secret) as admin:
                rest = asyncio.create_task(collect(admin, 600, 900))
                await work(server, 100)
                assert len(await rest) == 300
            await eventually(lambda: "log_stream.cut" in server.log_path.read_text(), within_s=30)
            # Buffered data is still read; the rest of the log never comes.
            assert len(await asyncio.to_thread(read_all, slow)) < 900 * 300


@asynchronous
async def test_a_half_closed_stream_that_is_not_read_is_cut(tmp_path: Path) -> None:
    """The client's half-close ends the stream, even though buffered data can't leave."""
    with small_buffers(tmp_path / "data", send_timeout_s=0.5) as server:
        secret = admin_token(server.data)
        await work(server, 200)
        with Raw(server.url, receive_buffer=4096) as slow:
            slow.send(head("GET /api/admin/transitions/stream?after=0 HTTP/1.1", {"Authorization": f"Bearer {secret}"}))
            slow.socket.recv(1)
            slow.finish()
            await eventually(lambda: not held(server.url, slow), within_s=30)


@asynchronous
async def test_a_stream_read_too_late_ends_with_the_reason(tmp_path: Path) -> None:
    with small_buffers(tmp_path / "data", send_timeout_s=4) as server:
        secret = admin_token(server.data)
        await work(server, 200)
        with stalled(server, secret) as slow:
            await eventually(lambda: "log_stream.slow" in server.log_path.read_text(), within_s=30)
            told = await asyncio.to_thread(read_all, slow)
    assert b'event: end\r\ndata: {"reason":"slow-consumer"}' in told
    assert told.endswith(b"0\r\n\r\n"), "and the stream is over"


def read_all(raw: socket.socket) -> bytes:
    """Read until the server drops the connection or ends the stream."""
    read = b""
    with suppress(ConnectionResetError):
        while not read.endswith(b"\r\n0\r\n\r\n") and (piece := raw.recv(65536)):
            read += piece
    return read


@asynchronous
async def test_a_stream_that_never_began_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client leaves before the response begins: however often that happens, others may follow."""
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        secret = services.admins._secrets.create("ada", services.clock.now_ms())
        credential = {"authorization": f"Bearer {secret}"}

        async def gone(*_: object) -> None:
            raise ConnectionError

        with monkeypatch.context() as patched:
            patched.setattr(ASGIStreamingResponse, "start_response", gone)
            for _ in range(20):
                answer = await http.get("/api/admin/transitions/stream", headers=credential)
                assert answer.status_code == 500
        assert services.followers.total() == 0
        async with http.stream("GET", "/api/admin/transitions/stream", headers=credential) as stream:
            assert stream.status_code == 200
            await anext(stream.aiter_raw())
            assert services.followers.total() == 1
        await eventually(lambda: services.followers.total() == 0)
