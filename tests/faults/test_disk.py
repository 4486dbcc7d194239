"""The disk fails under a running server: it stops acknowledging, reports it, and loses nothing acknowledged."""

from __future__ import annotations

import asyncio
import json
import resource
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pysqlite3
import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, logged_in, new_email
from tests.support.log import BEGUN, histories, verify
from tests.support.running import eventually, until
from tests.support.server import ServerProcess, check_trace, running_server


def fill_the_disk(server: ServerProcess) -> int:
    """Keep the WAL from growing, and return the limit. write(2) then fails with EFBIG, as on a full disk."""
    wal = server.data / "interlock.db-wal"
    limit = wal.stat().st_size + 4096
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return limit


def make_room(server: ServerProcess) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def check(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:interlock:problem:{name}"


async def work_until_refused(server: ServerProcess) -> tuple[dict[str, int], httpx.Response]:
    """Run many callers until one is refused. Return the acknowledged versions by session, and the refusal."""
    acknowledged: dict[str, int] = {}
    refusals: list[httpx.Response] = []

    async def caller() -> None:
        async with Client(server.url) as client:
            while not refusals:
                answer = await client.begin()
                for _ in range(5):
                    if not answer.is_success:
                        refusals.append(answer)
                        return
                    acknowledged[client.session_id] = client.tokens["version"]
                    answer = await client.refresh()

    await asyncio.gather(*(caller() for _ in range(8)))
    return acknowledged, refusals[0]


@pytest.mark.asvs("16.5.3")
@pytest.mark.checks("durability")
@asynchronous
async def test_a_full_disk_stops_acknowledgements_and_loses_nothing(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        acknowledged, later = await fail_under_load(server)
        make_room(server)
        server.stop()
        told = histories(server.data)
        for session_id, version in acknowledged.items():
            assert [row["version"] for row in told[session_id]][:version] == list(range(1, version + 1))
        verify(server.data)
        server.start()
        await go_on(server, later)
    finally:
        server.stop()
    verify(server.data)
    # The disk was full for the trace too: it ended there, and a new one began from the log.
    check_trace(server.trace)


async def fail_under_load(server: ServerProcess) -> tuple[dict[str, int], Client]:
    client = await logged_in(server.url)
    async with client.connect() as socket:
        await socket.recv()
        fill_the_disk(server)
        acknowledged, refusal = await work_until_refused(server)
        check(refusal, 503, "unavailable")
        assert refusal.json()["detail"] == "nothing was acknowledged"
        assert (await closed(socket)) == (1011, "internal error")
    for method, path in (
        ("GET", "/api/session"),
        ("GET", "/api/session/transitions"),
        ("GET", "/api/sessions"),
        ("DELETE", "/api/sessions"),
        ("POST", "/api/session/ticket"),
        ("POST", "/api/auth/logout"),
        ("POST", "/api/session"),
    ):
        check(await client.request(method, path), 503, "unavailable")
    check(await client.register(new_email()), 503, "unavailable")
    body = {"refresh_token": client.refresh_token}
    check(await client.http.post("/api/auth/refresh", json=body), 503, "unavailable")
    async with client.connect() as socket:
        assert (await closed(socket))[0] == 1011
    for path in ("/health/ready", "/health/live"):
        health = await client.http.get(path)
        assert (health.status_code, health.json()) == (503, {"status": "the log has stopped; restart the server"})
    assert (await client.http.get("/.well-known/jwks.json")).status_code == 200
    acknowledged[client.session_id] = 3
    return acknowledged, client


async def go_on(server: ServerProcess, client: Client) -> None:
    """Check that the session continues after the restart, its connection recorded as disconnected."""
    session = await client.session()
    assert (session["state"], session["connections"]) == ("authenticated", 0)
    (await client.refresh()).raise_for_status()
    async with client.connect() as socket:
        assert json.loads(await socket.recv())["session_id"] == client.session_id
    assert (await client.http.get("/health/ready")).status_code == 200
    await client.http.aclose()
    assert server.pid


@pytest.mark.asvs("16.3.4")
def test_free_space_does_not_restart_a_stopped_log(tmp_path: Path) -> None:
    """After a failed write the kernel's state is unknown: only a start, which reads the file again, may continue."""
    with running_server(tmp_path / "data") as server, httpx.Client(base_url=server.url) as http:
        http.post("/api/session").raise_for_status()
        fill_the_disk(server)
        while http.post("/api/session").is_success:
            pass
        make_room(server)
        check(http.post("/api/session"), 503, "unavailable")
        until(lambda: "surface.failed" in server.log_path.read_text())
        server.stop()
        server.start()
        assert http.post("/api/session").status_code == 201


@asynchronous
async def test_a_lock_by_another_program_is_a_temporary_overload(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, closing(open_as_a_user(server)) as other:
        async with await logged_in(server.url) as client:
            socket = await client.connect()
            await socket.recv()
            other.execute("BEGIN IMMEDIATE")
            asked = asyncio.create_task(client.http.post("/api/session"))
            assert (await client.request("GET", "/api/session")).status_code == 200, "reading goes on"
            dropped = asyncio.create_task(socket.close())
            answer = await asked
            check(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await client.http.get("/health/ready")).status_code == 200
            other.execute("ROLLBACK")
            await dropped
            assert (await client.http.post("/api/session")).status_code == 201
            # The disconnect could not be written meanwhile, but is written as soon as possible.
            await eventually(lambda: disconnected(client))
        verify(server.data)


async def disconnected(client: Client) -> bool:
    return bool((await client.session())["connections"] == 0)


def open_as_a_user(server: ServerProcess) -> Any:
    return pysqlite3.connect(str(server.database), isolation_level=None)


@asynchronous
async def test_a_row_appended_by_another_program_stops_the_server(tmp_path: Path) -> None:
    """The last record of another session is copied into a new one: the server stops there, and verify finds it."""
    with running_server(tmp_path / "data") as server, closing(open_as_a_user(server)) as other:
        async with Client(server.url) as client:
            (await client.begin()).raise_for_status()
            other.execute(
                "INSERT INTO transitions SELECT position + 1, kind, 'by-hand', 1, event, source, target, at_ms, actor,"
                " 'by-hand', data, digest FROM transitions ORDER BY position DESC LIMIT 1"
            )
            check(await client.begin(), 503, "unavailable")
    with pytest.raises(AssertionError, match=f"record {BEGUN + 2}: digest"):
        verify(server.data)


@asynchronous
async def test_a_login_does_not_wait_for_a_failed_disk(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            fill_the_disk(server)
            while (await client.http.post("/api/session")).is_success:
                pass
            email = new_email()
            check(await client.register(email), 503, "unavailable")
            answer = await client.http.post("/api/auth/login", json={"email": email, "password": PASSWORD})
            assert answer.status_code in {401, 503}
        make_room(server)
