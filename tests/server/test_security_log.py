"""Security events in the log: logins, failed logins, refusals; each line of a request has its id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email
from tests.support.metrics import log_rows, whole_log
from tests.support.running import eventually, run, until
from tests.support.server import ServerProcess, running_server

ID = re.compile(r"req_[\w-]{22}_[0-9]+")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server that logs everything, and trusts the forwarded client address."""
    data = tmp_path_factory.mktemp("logged") / "data"
    settings = {"log_json": True, "log_level": "debug", "access_log": True, "trusted_proxies": "127.0.0.1"}
    with running_server(data, refresh_grace_s=0, **settings) as process:
        yield process


def of_request(server: ServerProcess, answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the log lines of the request of ``answer``; the access log's is the last."""
    request_id = answer.headers["x-request-id"]
    assert ID.fullmatch(request_id)
    return until(lambda: rows if (rows := of_id(server, request_id)) and rows[-1]["event"] == "http.answered" else [])


def of_id(server: ServerProcess, request_id: str) -> list[dict[str, Any]]:
    return [row for row in log_rows(server) if row.get("request_id") == request_id]


def one(server: ServerProcess, answer: httpx.Response, event: str, client: str = "127.0.0.1") -> dict[str, Any]:
    (row,) = [row for row in of_request(server, answer) if row["event"] == event]
    assert row["client"] == client
    return row


@pytest.mark.asvs("16.3.1", "16.2.1")
def test_successful_and_failed_logins_are_logged(logged: ServerProcess) -> None:
    async def main() -> None:
        email = new_email()
        async with Client(logged.url) as client:
            registered = await client.register(email)
            subject = registered.json()["subject"]
            assert one(logged, registered, "account.registered")["subject"] == subject
            came = await client.log_in(email)
            row = one(logged, came, "login.succeeded")
            assert (row["level"], row["method"], row["subject"]) == ("info", "password", subject)
            assert row["session_id"] == client.session_id
            failed = await client.sibling().log_in(email.upper(), "not the right password")
            unknown = await client.sibling().log_in("nobody@example.org", "not the right password")
            first, second = one(logged, failed, "login.failed"), one(logged, unknown, "login.failed")
            again = one(logged, await client.sibling().log_in(email, PASSWORD + "x"), "login.failed")
            assert (first["level"], first["method"]) == ("warning", "password")
            # Guesses at one account can be correlated, and the email address appears nowhere.
            assert first["account"] == again["account"] != second["account"]
            assert re.fullmatch(r"[0-9a-f]{16}", first["account"])
        text = whole_log(logged)
        assert email not in text.lower()
        assert "nobody" not in text

    run(main())


@pytest.mark.asvs("16.3.1")
def test_password_changes_are_logged(logged: ServerProcess) -> None:
    async def main() -> None:
        client = await logged_in(logged.url)
        old, new = PASSWORD, "another horse battery staple"
        wrong = await client.request("POST", "/api/auth/password", json={"current_password": new, "new_password": old})
        assert one(logged, wrong, "password.wrong")["session_id"] == client.session_id
        assert one(logged, wrong, "request.refused")["problem"] == "password-wrong"
        other = client.sibling()
        await other.log_in(client.email)
        done = await client.request("POST", "/api/auth/password", json={"current_password": old, "new_password": new})
        assert one(logged, done, "password.changed")["session_id"] == client.session_id
        assert "login.succeeded" not in [row["event"] for row in of_request(logged, done)]
        ended = one(logged, done, "session.revoked")
        assert (ended["session_id"], ended["reason"]) == (other.session_id, "password_changed")
        await client.http.aclose()

    run(main())


@pytest.mark.asvs("16.3.2", "16.3.3")
def test_refusals_are_logged_with_problem_and_client(logged: ServerProcess) -> None:
    async def main() -> None:
        client = await logged_in(logged.url)
        used = client.refresh_token
        session_id = client.session_id
        assert (await client.refresh()).status_code == 200
        repeated = await client.refresh(used)
        assert repeated.status_code == 200, "no answer to it was used"
        row = one(logged, repeated, "token.repeated")
        assert (row["level"], row["session_id"]) == ("info", session_id)
        client.tokens = repeated.json()
        assert (await client.refresh()).status_code == 200
        reused = await client.refresh(used)
        row = one(logged, reused, "token.reused")
        assert (row["level"], row["session_id"]) == ("warning", session_id)
        assert one(logged, reused, "transition.refused")["guard"] == "rotation_honoured"
        # From another address, because one client's repeats share a line.
        dead = await client.request("GET", "/api/session", headers={"X-Forwarded-For": "192.0.2.2"})
        row = one(logged, dead, "request.refused", "192.0.2.2")
        assert (row["problem"], row["status"], row["route"]) == ("session-ended", 401, "/api/session")
        assert row["session_id"] == session_id
        foreign = await client.http.post("/api/session", headers={"origin": "https://evil.example"})
        assert one(logged, foreign, "request.refused")["problem"] == "origin-refused"
        malformed = await client.http.post(
            "/api/auth/login", content=b"{", headers={"content-type": "application/json"}
        )
        assert one(logged, malformed, "request.refused")["problem"] == "bad-request"
        anothers = await logged_in(logged.url)
        theirs = await anothers.request("DELETE", f"/api/sessions/{session_id}")
        assert one(logged, theirs, "request.refused")["route"] == "/api/sessions/{session_id}"
        for each in (client, anothers):
            await each.http.aclose()

    run(main())


@pytest.mark.asvs("16.3.2")
def test_refused_and_closed_sockets_are_logged(logged: ServerProcess) -> None:
    async def main() -> None:
        client = await logged_in(logged.url)
        elsewhere = {**client.bearer, "X-Forwarded-For": "192.0.2.1"}
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with client.connect(origin="https://evil.example", additional_headers=elsewhere):
                raise AssertionError
        request_id = refused.value.response.headers["x-request-id"]
        rows = await eventually(lambda: of_id(logged, request_id))
        assert [row["problem"] for row in rows if row["event"] == "request.refused"] == ["origin-refused"]
        unknown = await client.connect(additional_headers={})
        assert (await closed(unknown))[0] == 4401
        assert unknown.response is not None
        request_id = unknown.response.headers["x-request-id"]
        (row,) = await eventually(lambda: [r for r in of_id(logged, request_id) if r["event"] == "socket.refused"])
        assert (row["code"], row["because"]) == (4401, "not_authenticated")
        good = await client.connect()
        connection_id = (await hello(good))["connection_id"]
        await good.close(1000)
        ended = await eventually(lambda: [r for r in log_rows(logged) if r["event"] == "socket.closed"])
        assert (ended[-1]["connection_id"], ended[-1]["code"], ended[-1]["by"]) == (connection_id, 1000, "client")
        assert good.response is not None
        assert ended[-1]["request_id"] == good.response.headers["x-request-id"]
        assert ended[-1]["session_id"] == client.session_id
        await client.http.aclose()

    run(main())


@pytest.mark.asvs("4.1.3", "16.2.1")
def test_every_response_has_a_unique_id_that_its_log_lines_share(logged: ServerProcess) -> None:
    with httpx.Client(base_url=logged.url) as http:
        answers = [
            http.post("/api/session"),
            http.post("/api/session", headers={"x-request-id": "mine"}),
            http.get("/api/session"),
            http.get("/nothing"),
            http.options("/api/session"),
            http.put("/api/session"),
            http.get("/api/connect"),
            http.get("/health/live"),
            http.get("/schema/openapi.json"),
        ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    for answer in answers:
        row = one(logged, answer, "http.answered")
        assert (row["status"], row["method"]) == (answer.status_code, answer.request.method)
        assert row["duration_ms"] > 0
    assert "mine" not in whole_log(logged)


def test_request_ids_of_callers_are_used_only_if_trusted(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, trust_request_ids=True) as server, httpx.Client() as http:

        def answered(given: str) -> str:
            return http.get(f"{server.url}/nothing", headers={"x-request-id": given}).headers["x-request-id"]

        assert answered("edge-1.2_3") == "edge-1.2_3"
        assert '"edge-1.2_3"' in whole_log(server)
        for bad in ("", "x" * 65, "a b", "a\tb", 'a"b', "a;b"):
            assert ID.fullmatch(answered(bad)), bad
        assert ID.fullmatch(http.get(f"{server.url}/nothing").headers["x-request-id"])


def test_the_access_log_is_off_unless_asked_for(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True) as server:
        assert httpx.get(f"{server.url}/nothing").status_code == 404
    events = {row["event"] for row in log_rows(server)}
    assert "request.refused" in events
    assert "http.answered" not in events
