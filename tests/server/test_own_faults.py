"""The server's own faults: the client gets an error, the log the place, and neither a secret."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import failing as failing_code
from tests.support.client import Client, closed, hello, logged_in
from tests.support.metrics import log_rows, scrape
from tests.support.running import eventually, run, until
from tests.support.server import ServerProcess

SECRET = "explode, correct horse battery staple"


class FailingServer(ServerProcess):
    prepare = staticmethod(failing_code.put_in)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[ServerProcess]:
    server = FailingServer(tmp_path / "data", {"log_json": True, "metrics_port": 0})
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.asvs("16.3.4", "16.5.1", "16.5.4")
def test_an_unexpected_error_is_a_bare_500_and_a_log_line_with_its_place(failing: ServerProcess) -> None:
    answer = httpx.post(f"{failing.url}/api/auth/login", json={"email": "ada@example.org", "password": SECRET})
    assert answer.status_code == 500
    assert answer.json() == {
        "type": "urn:interlock:problem:internal-error",
        "title": "Internal server error",
        "status": 500,
        "detail": "Internal server error",
        "recovery": "retry_later",
        "advice": "Retry later; the server has logged it.",
    }
    (row,) = until(lambda: [row for row in log_rows(failing) if row["event"] == "http.failed"])
    assert row["request_id"] == answer.headers["x-request-id"]
    assert (row["route"], row["method"], row["status"]) == ("/api/auth/login", "POST", 500)
    assert row["error"] == "RuntimeError"
    assert "endpoints/auth.py" in row["traceback"]
    assert "; from ValueError > " in row["traceback"]
    assert "correct horse" not in failing.log_path.read_text() + answer.text + repr(answer.headers)


@pytest.mark.asvs("16.3.4", "16.5.1", "16.5.4")
def test_an_unexpected_error_in_a_handshake_closes_with_1011(failing: ServerProcess) -> None:
    async def main() -> None:
        ticket = f"ticket.explode{'x' * 32}"
        async with Client(failing.url) as client:
            socket = await client.connect(subprotocols=["interlock.v1", ticket])
            assert await closed(socket) == (1011, "internal error")
        rows = await eventually(lambda: [row for row in log_rows(failing) if row["event"] == "socket.failed"])
        assert len(rows) == 1
        assert "endpoints/connect.py" in rows[0]["traceback"]
        # A failure outside any request is caught by the last resort.
        await eventually(lambda: [row for row in log_rows(failing) if row["event"] == "task.failed"])
        assert "explode" not in failing.log_path.read_text()
        other = await logged_in(failing.url)
        async with other.connect() as good:
            await hello(good)
        await other.http.aclose()
        assert scrape(failing).by("interlock_log_events_total", "event")["socket.failed"] == 1

    run(main())
    assert failing.stop(signal.SIGTERM) == 0


@pytest.mark.asvs("16.3.4", "16.5.1", "16.5.4")
def test_an_unexpected_error_at_a_message_closes_only_that_socket(failing: ServerProcess) -> None:
    async def main() -> None:
        async with await logged_in(failing.url) as client, client.connect() as good:
            await hello(good)
            async with client.connect() as socket:
                await hello(socket)
                await socket.send(SECRET)
                assert (await closed(socket))[0] == 1011
            (row,) = await eventually(lambda: [row for row in log_rows(failing) if row["event"] == "socket.failed"])
            assert "failing.py" in row["traceback"]
            assert "correct horse" not in failing.log_path.read_text()
            await eventually(lambda: only_one(client))
            await good.send('{"type": "ping"}')

    async def only_one(client: Client) -> bool:
        return bool((await client.session())["connections"] == 1)

    run(main())


@pytest.mark.asvs("16.5.1")
def test_an_unknown_fields_name_is_not_repeated(failing: ServerProcess) -> None:
    for name in ("correct horse `battery` staple", "correct horse - battery", "x` - at `$.correct horse`"):
        answer = httpx.post(f"{failing.url}/api/session", json={name: 1})
        assert answer.status_code == 400
        assert "horse" not in answer.text
        assert "unknown field" in answer.text
    missing = httpx.post(f"{failing.url}/api/auth/login", json={"email": "ada@example.org"})
    assert "password" in missing.text


@pytest.mark.asvs("13.4.4")
def test_trace_requests_are_not_echoed(failing: ServerProcess) -> None:
    for path in ("/", "/api/session", "/health/live"):
        answer = httpx.request("TRACE", f"{failing.url}{path}", headers={"x-canary": "correct horse"})
        assert answer.status_code in {404, 405}
        assert "horse" not in answer.text
