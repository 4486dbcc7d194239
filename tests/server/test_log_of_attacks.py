"""Attempts to bypass a control, over a real server: each is logged with its client, and nothing that was sent."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import websockets

from tests.support.asynchronous import asynchronous
from tests.support.client import closed, hello, logged_in
from tests.support.hostile import AUDIENCE, DISCOVERY, KEYS, Hostile, hostile_provider
from tests.support.metrics import log_rows, whole_log
from tests.support.running import eventually, until
from tests.support.server import ServerProcess, running_server

PROXIED = {"X-Forwarded-For": "198.51.100.7"}
SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def attacked(provider: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server behind a proxy on this machine, which logs everything and has short timeouts."""
    with running_server(
        tmp_path_factory.mktemp("attacked") / "data",
        log_json=True,
        log_level="debug",
        access_log=True,
        trusted_proxies="127.0.0.1",
        header_timeout_s=2,
        limit_session_create="2/1h",
        oidc_issuer=provider.issuer,
        oidc_audiences=AUDIENCE,
        oidc_retry_s=0.01,
    ) as process:
        yield process


def rows(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    return [row for row in log_rows(server) if row["event"] == event]


async def new_rows(server: ServerProcess, event: str, before: int) -> list[dict[str, Any]]:
    """Return the lines after the first ``before``, once there is one."""
    found: list[dict[str, Any]] = await eventually(lambda: rows(server, event)[before:])
    return found


BROKEN: dict[str, tuple[str | bytes, int, str]] = {
    "no JSON": ("{", 4400, "bad_message"),
    "a message that there is not": ('{"type": "revoke"}', 4400, "bad_message"),
    "a binary one": (b"ping", 4400, "bad_message"),
    "too much": ("x" * 70_000, 1009, "message_too_big"),
    "a token that is none": ('{"type": "refresh", "access_token": "x"}', 4401, "not_authenticated"),
}


@pytest.mark.asvs("16.3.2", "16.3.3")
@pytest.mark.parametrize(("message", "code", "because"), BROKEN.values(), ids=BROKEN)
@asynchronous
async def test_a_socket_closed_for_a_bad_message_is_logged(
    attacked: ServerProcess, message: str | bytes, code: int, because: str
) -> None:
    async with await logged_in(attacked.url) as client:
        before = len(rows(attacked, "socket.refused"))
        # A new address each time, because one client's repeats share a line.
        address = f"198.51.100.{100 + list(BROKEN.values()).index((message, code, because))}"
        with_address = {**client.bearer, "X-Forwarded-For": address}
        async with client.connect(additional_headers=with_address) as opened:
            await hello(opened)
            await opened.send(message)
            assert (await closed(opened))[0] == code
        (row,) = await new_rows(attacked, "socket.refused", before)
        assert (row["code"], row["because"]) == (code, because)
        assert (row["client"], row["session_id"]) == (address, client.session_id)
        async with client.connect() as opened:
            await hello(opened)
        await eventually(lambda: rows(attacked, "socket.closed")[-1]["code"] == 1000)
        assert len(rows(attacked, "socket.refused")) == before + 1, "who says goodbye has broken nothing"


@pytest.mark.asvs("16.2.1", "16.3.3")
@asynchronous
async def test_an_invalid_request_is_logged_with_its_peer(attacked: ServerProcess) -> None:
    """The peer's address: no headers have been read in which a proxy could name another."""
    address = urlsplit(attacked.url)
    for sent, event, about in (
        (b"\x16\x03\x01 garbage\r\n\r\n", "traffic.unreadable", {"status": 400}),
        (b"GET /api/session HTTP/1.1\r\nHost: x\r\n", "traffic.slow", {"part": "headers"}),
    ):
        before = len(rows(attacked, event))
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            raw.sendall(sent)
            (row,) = await new_rows(attacked, event, before)
        assert row.items() >= {"client": "127.0.0.1", **about}.items()


@pytest.mark.asvs("16.2.1", "16.3.3")
def test_behind_a_proxy_log_lines_name_the_client(attacked: ServerProcess) -> None:
    answers = [httpx.post(f"{attacked.url}/api/session", headers=PROXIED) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    (limited,) = until(lambda: rows(attacked, "traffic.limited"))
    assert (limited["kind"], limited["by"]) == ("create_session", "address")
    (refused,) = until(lambda: [r for r in rows(attacked, "request.refused") if r["problem"] == "rate-limited"])
    for row in (limited, refused):
        assert (row["client"], row["request_id"]) == ("198.51.100.7", answers[2].headers["x-request-id"])


@pytest.mark.asvs("16.2.5")
@asynchronous
async def test_no_raw_part_of_a_request_is_logged(attacked: ServerProcess) -> None:
    """Not its URL, where a client may have put a secret, nor a header, nor the body's content."""
    before = len(log_rows(attacked))
    headers = {"User-Agent": SECRET, "Cookie": f"x={SECRET}", "Referer": f"https://x/{SECRET}", "X-Request-Id": SECRET}
    async with await logged_in(attacked.url) as client:
        for path in ("/api/session", f"/{SECRET}", f"/api/sessions/{SECRET}", "/api/auth/refresh", "/api/auth/login"):
            for method in ("GET", "POST", "DELETE"):
                given = {"email": SECRET, "password": SECRET, "refresh_token": SECRET, SECRET: SECRET}
                for query in ({}, {"token": SECRET}):
                    await client.request(method, path, params=query, headers=headers, json=given)
        body = {"email": client.email, "password": SECRET}
        assert (await client.http.post("/api/auth/login", json=body)).status_code == 401
        for address in (attacked.socket_url, f"{attacked.socket_url}?ticket={SECRET}"):
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(address, subprotocols=["x", SECRET])  # type: ignore[list-item]  # a plain string does
    lines = whole_log(attacked).splitlines()[before:]
    assert len(lines) > 20
    assert [line for line in lines if SECRET in line or client.email in line] == []


@pytest.mark.asvs("16.3.1")
def test_logins_by_id_token_are_logged_whether_they_succeed_or_fail(attacked: ServerProcess, provider: Hostile) -> None:
    def exchanged(token: str) -> tuple[int, list[dict[str, Any]]]:
        address = {"X-Forwarded-For": "198.51.100.8"}
        answer = httpx.post(f"{attacked.url}/api/auth/exchange", json={"id_token": token}, headers=address, timeout=60)
        lines = map(json.loads, whole_log(attacked).splitlines())
        own = [row for row in lines if row.get("request_id") == answer.headers["x-request-id"]]
        return answer.status_code, [row for row in own if row["event"] in {"login.succeeded", "request.refused"}]

    status, (row,) = exchanged(provider.token())
    assert (status, row["event"], row["method"]) == (200, "login.succeeded", "oidc")
    assert row["subject"].startswith("acc_")
    status, (row,) = exchanged(provider.token(aud="another"))
    assert (status, row["event"], row["problem"]) == (401, "request.refused", "credential-invalid")
    assert (row["route"], row["client"]) == ("/api/auth/exchange", "198.51.100.8")


@pytest.mark.asvs("16.3.4")
def test_an_unreachable_provider_is_logged(tmp_path: Path) -> None:
    with hostile_provider() as away:
        away.serve(DISCOVERY, b"", 500)
        away.serve(KEYS, b"", 500)
        settings = {"oidc_issuer": away.issuer, "oidc_audiences": AUDIENCE}
        with running_server(tmp_path / "data", log_json=True, **settings) as server:
            answer = httpx.post(f"{server.url}/api/auth/exchange", json={"id_token": away.token()}, timeout=60)
            assert answer.status_code == 503
        own = [row for row in log_rows(server) if row.get("request_id") == answer.headers["x-request-id"]]
    because = {row["event"]: row.get("because") for row in own}
    assert because["oidc.keys_unavailable"] == "the provider answered 500"
    assert "http.failed" in because
