"""Administrators' secrets over a real server: what they open, what they do not, and how they are logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.admin import Admin, admin_token, problem, remove_admin
from tests.support.client import Client, closed, logged_in
from tests.support.metrics import log_rows
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server


@pytest.mark.asvs("8.2.1", "8.2.2")
@scenario()
async def test_no_session_opens_administrators_calls(server: ServerProcess, secret: str) -> None:
    async with await logged_in(server.url) as client:
        session_tokens = (client.access_token, client.refresh_token)
        for presented in (
            *session_tokens,
            secret[:-1],
            secret + "x",
            secret.upper(),
            "ilk_admin_bob_x",
            "ilk_client_x_y",
            "x",
        ):
            for path in ("sessions", "transitions", "transitions/stream", "audit", "accounts"):
                answer = await client.http.get(f"/api/admin/{path}", headers={"Authorization": f"Bearer {presented}"})
                problem(answer, 401, "admin-credential-invalid")
        basic = {"Authorization": "Basic YWRhOmFkYQ=="}
        problem(await client.http.get("/api/admin/sessions", headers=basic), 401, "admin-credential-invalid")
        answer = await client.http.get("/api/admin/sessions")
        problem(answer, 401, "admin-credential-missing")
        assert answer.headers["www-authenticate"] == 'Bearer realm="interlock"'


@pytest.mark.asvs("8.2.1")
@scenario()
async def test_an_administrators_secret_opens_nothing_else(server: ServerProcess, secret: str) -> None:
    async with Client(server.url) as client:
        client.tokens = {"access_token": secret}
        for method, path in (
            ("GET", "/api/session"),
            ("GET", "/api/sessions"),
            ("DELETE", "/api/sessions"),
            ("POST", "/api/session/ticket"),
            ("POST", "/api/auth/logout"),
        ):
            problem(await client.request(method, path), 401, "credential-invalid")
        socket = await client.connect()
        assert (await closed(socket))[0] == 4401
        problem(await client.http.post("/api/auth/refresh", json={"refresh_token": secret}), 401, "credential-invalid")


@pytest.mark.asvs("8.3.2")
@scenario()
async def test_secrets_can_be_made_and_removed_while_the_server_runs(server: ServerProcess) -> None:
    async with Admin(server.url, admin_token(server.data, "carl")) as admin:
        await admin.get("/accounts")
        remove_admin(server.data, "carl")
        problem(await admin.http.get("/accounts"), 401, "admin-credential-invalid")
        async with Admin(server.url, admin_token(server.data, "carl")) as again:
            await again.get("/accounts")
            problem(await admin.http.get("/accounts"), 401, "admin-credential-invalid")
        remove_admin(server.data, "carl")


@pytest.mark.asvs("16.3.1", "16.3.2", "16.2.5")
@scenario()
async def test_administrators_calls_and_refusals_are_logged_without_secrets(tmp_path: Path) -> None:
    """The first refusal is logged at once, those of the next seconds as a number: guessing can't fill the disk."""
    with running_server(tmp_path / "data", log_json=True) as server:
        secret = admin_token(server.data)
        async with Admin(server.url, secret) as admin, Admin(server.url, f"{secret[:-9]}forgotten") as stranger:
            await admin.get("/accounts", email="somebody@example.org")
            for _ in range(50):
                problem(await stranger.http.get("/accounts"), 401, "admin-credential-invalid")
    told = server.log_path.read_text()
    refused = [row for row in log_rows(server) if row["event"] == "admin.refused"]
    assert sum(row.get("repeated", 1) for row in refused) == 50
    assert len(refused) < 25
    assert {row["client"] for row in refused} == {"127.0.0.1"}
    assert '"actor": "admin:ada", "method": "GET", "route": "/api/admin/accounts"' in told
    for hidden in (secret, "forgotten", secret[-43:], "somebody"):
        assert hidden not in told


@pytest.mark.asvs("13.3.1", "16.5.1", "16.5.3")
@scenario()
async def test_a_secret_readable_by_others_opens_nothing(tmp_path: Path) -> None:
    """Nor does any other secret until it is mended, because no owner of a secret is certain."""
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, admin_token(server.data)) as admin:
            await admin.get("/accounts")
            file = server.data / "keys" / "admin-ada.secret"
            file.chmod(0o644)
            body = problem(await admin.http.get("/accounts"), 503, "secrets-unavailable")
            assert str(tmp_path) not in str(body)
            await eventually(lambda: "may be read by others" in server.log_path.read_text())
            file.chmod(0o600)
            await admin.get("/accounts")


@pytest.mark.parametrize(("proxies", "address"), [("127.0.0.1", "198.51.100.7"), ("192.0.2.1", "127.0.0.1")])
@scenario()
async def test_the_audit_trail_names_the_client_behind_a_trusted_proxy(
    tmp_path: Path, proxies: str, address: str
) -> None:
    with running_server(tmp_path / "data", trusted_proxies=proxies) as server:
        async with await logged_in(server.url) as user, Admin(server.url, admin_token(server.data)) as admin:
            path = f"/accounts/{(await user.session())['subject']}/disable"
            answer = await admin.http.post(path, headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7"})
            assert answer.status_code == 200
            assert [act["data"].get("address") for act in await admin.every("/audit")] == [address]
