"""Introspection (RFC 7662) and revocation (RFC 7009): only registered clients are answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from interlock.server.guard.secrets import Secrets
from tests.support.client import Client, closed, hello, logged_in
from tests.support.forging import claims_of
from tests.support.log import histories, verify
from tests.support.running import scenario, until
from tests.support.server import ServerProcess, running_server

PATHS = ("/oauth/introspect", "/oauth/revoke")
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a separate server with a short idle timeout, so that activity would show at once."""
    with running_server(
        tmp_path_factory.mktemp("oauth") / "data", idle_timeout_s=600, issuer="https://id.example"
    ) as it:
        yield it
        verify(it.data)


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> str:
    return Secrets(server.data / "keys", "client").create("gateway", 1)


async def introspect(client: Client, secret: str, token: str, **more: str) -> dict[str, Any]:
    answer = await client.http.post("/oauth/introspect", auth=("gateway", secret), data={"token": token, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx.Response, status: int, error: str, name: str) -> None:
    """Check that it is both a problem (RFC 9457) and an OAuth error (RFC 6749, 5.2)."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["error"], body["type"]) == (error, f"urn:interlock:problem:{name}")
    assert body["error_description"] == body["detail"]
    challenge = answer.headers.get("www-authenticate", "")
    assert challenge.startswith("Basic ") if status == 401 else not challenge


@scenario()
async def test_introspection_shows_an_access_token_active_while_current(server: ServerProcess, secret: str) -> None:
    async with await logged_in(server.url) as client:
        claims = claims_of(client.access_token)
        told = await introspect(client, secret, client.access_token)
        assert told == {
            "active": True,
            "token_type": "Bearer",
            "session_state": "authenticated",
            **{name: claims[name] for name in ("sub", "sid", "iss", "aud", "exp", "iat", "jti")},
        }
        async with client.connect() as socket:
            await hello(socket)
            told = await introspect(client, secret, client.access_token)
            assert (told["active"], told["session_state"]) == (True, "connected")
        old = client.access_token
        assert (await client.log_in(client.email)).status_code == 200
        assert await introspect(client, secret, old) == {"active": False}
        assert (await introspect(client, secret, client.access_token))["active"] is True
        await client.request("POST", "/api/auth/logout")
        assert await introspect(client, secret, client.access_token) == {"active": False}


@scenario()
async def test_introspection_shows_a_refresh_token_active_while_current(server: ServerProcess, secret: str) -> None:
    async with await logged_in(server.url) as client:
        session = await client.session()
        old = client.refresh_token
        assert await introspect(client, secret, old, token_type_hint="refresh_token") == {
            "active": True,
            "token_type": "refresh_token",
            "session_state": "authenticated",
            "sub": session["subject"],
            "sid": client.session_id,
            "iss": "https://id.example",
            "aud": "interlock",
            "exp": int(datetime.fromisoformat(session["expires_at"]).timestamp()),
        }
        await client.refresh()
        assert await introspect(client, secret, old) == {"active": False}, "though its grace is not over"
        # Any hint is accepted, even a wrong one (RFC 7662, 2.1).
        for hint in ("access_token", "refresh_token", "saml", ""):
            assert (await introspect(client, secret, client.refresh_token, token_type_hint=hint))["active"] is True
        # Introspecting an exchanged token is no use of it.
        assert (await client.refresh()).status_code == 200


@scenario()
async def test_introspection_shows_an_anonymous_session_like_its_token(server: ServerProcess, secret: str) -> None:
    async with Client(server.url) as client:
        await client.begin()
        for token in (client.access_token, client.refresh_token):
            told = await introspect(client, secret, token)
            assert (told["sub"], told["session_state"]) == (f"anonymous:{client.session_id}", "created")


@scenario()
async def test_introspection_is_no_activity(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", idle_timeout_s=0.5) as server:
        key = Secrets(server.data / "keys", "client").create("gateway", 1)
        async with await logged_in(server.url) as client:
            # A request of its own would be recorded as a touch, every twentieth of a second.
            while (await introspect(client, key, client.access_token))["active"]:
                assert (await introspect(client, key, client.refresh_token)).keys() >= {"active"}
            record = histories(server.data)[client.session_id]
            assert [each["event"] for each in record][:2] == ["create", "authenticate"]
            assert "touch" not in {each["event"] for each in record}


@pytest.mark.parametrize(
    "token", ["x", ".", "a.b.c", "ilk_client_gateway_x", "0" * 36 + ".0." + "A" * 43, "x" * 60_000]
)
@scenario()
async def test_an_invalid_token_is_inactive_and_revoking_it_succeeds(
    server: ServerProcess, secret: str, token: str
) -> None:
    async with Client(server.url) as client:
        assert await introspect(client, secret, token) == {"active": False}
        answer = await client.http.post("/oauth/revoke", auth=("gateway", secret), data={"token": token})
        assert (answer.status_code, answer.json()) == (200, {"ended": 0})
        assert "interlock-receipt" not in answer.headers


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@scenario()
async def test_revoking_either_token_ends_the_session(server: ServerProcess, secret: str, which: str) -> None:
    async with await logged_in(server.url) as client:
        token = client.tokens[which]
        if which == "refresh_token":
            await client.refresh()  # Its holder wants out, though another tab has exchanged it.
        async with client.connect() as socket:
            await hello(socket)
            answer = await client.http.post("/oauth/revoke", auth=("gateway", secret), data={"token": token})
            assert await closed(socket) == (4403, "session ended: revoked")
        assert (answer.status_code, answer.json()["ended"]) == (200, 1)
        receipt = answer.json()["receipt"]
        assert answer.headers["interlock-receipt"] == f"{receipt['position']}.{receipt['digest']}"
        last = histories(server.data)[client.session_id][-1]
        assert (last["event"], last["actor"], last["data"]) == ("revoke", "client:gateway", {"reason": "revoked"})
        assert last["position"] == receipt["position"]
        again = await client.http.post("/oauth/revoke", auth=("gateway", secret), data={"token": token})
        assert (again.status_code, again.json()) == (200, {"ended": 0})


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.mark.asvs("10.4.10")
@pytest.mark.parametrize("path", PATHS)
def test_a_client_authenticates_in_exactly_one_of_two_ways(server: ServerProcess, secret: str, path: str) -> None:
    with httpx.Client(base_url=server.url) as http:
        quoted = basic(quote("gateway", safe=""), quote(secret, safe=""))
        for headers in (
            basic("gateway", secret),
            quoted,
            {"Authorization": quoted["Authorization"].replace("Basic", "BASIC")},
        ):
            assert http.post(path, headers=headers, data={"token": "x"}).status_code == 200
            assert http.post(path, headers=headers, data={"token": "x", "client_id": "gateway"}).status_code == 200
        posted = {"token": "x", "client_id": "gateway", "client_secret": secret}
        assert http.post(path, data=posted).status_code == 200
        both = http.post(path, headers=basic("gateway", secret), data=posted)
        refused(both, 400, "invalid_request", "bad-request")
        other = http.post(path, headers=basic("gateway", secret), data={"token": "x", "client_id": "other"})
        refused(other, 400, "invalid_request", "bad-request")


@pytest.mark.asvs("10.4.10")
@pytest.mark.parametrize("path", PATHS)
@scenario()
async def test_only_registered_clients_may_introspect_and_revoke(server: ServerProcess, secret: str, path: str) -> None:
    admin = Secrets(server.data / "keys", "admin").create(f"root-{path[7:]}", 1)
    other = Secrets(server.data / "keys", "client").create(f"other-{path[7:]}", 1)
    async with await logged_in(server.url) as client:
        token = {"token": client.access_token}
        wrong: list[dict[str, Any]] = [
            {},
            {"headers": client.bearer},
            {"headers": {"Authorization": f"Bearer {secret}"}},
            {"headers": {"Authorization": secret}},
            {"headers": {"Authorization": "Basic"}},
            {"headers": {"Authorization": "Basic !!!"}},
            {"headers": {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}},
            {"headers": {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}},
            {"headers": basic("gateway", "%FF")},
            {"headers": basic("gateway", "")},
            {"headers": basic("", secret)},
            {"headers": basic("gateway", secret[:-1])},
            {"headers": basic("gateway", secret + " ")},
            {"headers": basic("gateway", other)},
            {"headers": basic("Gateway", secret)},
            {"headers": basic("nobody", "ilk_client_nobody_" + "A" * 43)},
            {"headers": basic(f"root-{path[7:]}", admin)},
            {"data": {**token, "client_id": "gateway"}},
            {"data": {**token, "client_secret": secret}},
            {"data": {**token, "client_secret": "made-up"}},
            {"data": {**token, "client_id": "", "client_secret": "made-up"}},
            {"data": {**token, "client_id": "gateway", "client_secret": "made-up"}},
            {"data": {**token, "client_id": "gateway", "client_secret": other}},
            {"data": {**token, "client_id": "", "client_secret": ""}},
        ]
        for arguments in wrong:
            answer = await client.http.post(path, **{"data": token, **arguments})
            refused(answer, 401, "invalid_client", "client-authentication-failed")
            assert client.access_token not in answer.text
            assert secret not in answer.text
        in_the_address = {"client_id": "gateway", "client_secret": secret}
        refused(await client.http.post(path, data=token, params=in_the_address), 400, "invalid_request", "bad-request")
        # The client is authenticated first: an invalid form reveals nothing to strangers.
        refused(await client.http.post(path), 401, "invalid_client", "client-authentication-failed")
        assert (await client.session())["state"] == "authenticated"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "status", "content_type"),
    [
        ("", 400, FORM["content-type"]),
        ("", 400, ""),
        ("token=", 400, FORM["content-type"]),
        ("token=x&token=x", 400, FORM["content-type"]),
        ("token=x&scope=all", 400, FORM["content-type"]),
        ("token", 400, FORM["content-type"]),
        ("token=%ff", 400, FORM["content-type"]),
        ("token=x&token_type_hint=" + "x" * 300, 200, FORM["content-type"]),
        ("token=é", 400, FORM["content-type"]),
        ("token=x", 200, "Application/X-WWW-Form-Urlencoded; charset=utf-8"),
        ('{"token": "x"}', 415, "application/json"),
        ("token=x", 415, "text/plain"),
        ("token=x", 415, "multipart/form-data; boundary=x"),
        ("token=x", 415, ""),
    ],
)
def test_introspection_accepts_only_a_form(
    server: ServerProcess, secret: str, path: str, *, content: str, status: int, content_type: str
) -> None:
    headers = {**basic("gateway", secret), **({"content-type": content_type} if content_type else {})}
    answer = httpx.post(f"{server.url}{path}", content=content.encode(), headers=headers)
    if status == 200:
        assert answer.status_code == 200
    else:
        refused(answer, status, "invalid_request", {400: "bad-request", 415: "unsupported-media-type"}[status])
        assert "scope" not in answer.text, "the client chose the name of an unknown field"
        assert ({"field": "token", "message": "is missing"} in answer.json().get("errors", ())) is (
            content == "" and status == 400
        )


@pytest.mark.parametrize("path", PATHS)
def test_an_oversized_introspection_form_is_refused(server: ServerProcess, secret: str, path: str) -> None:
    answer = httpx.post(f"{server.url}{path}", data={"token": "x" * 70_000}, auth=("gateway", secret))
    # The connection layer refuses it, which does not know OAuth.
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:interlock:problem:too-large")
    assert httpx.get(f"{server.url}{path}").status_code == 405
    assert httpx.get(f"{server.url}{path}", params={"token": "x"}, auth=("gateway", secret)).status_code == 405


@pytest.mark.parametrize("path", PATHS)
def test_a_removed_client_is_refused_at_once(server: ServerProcess, path: str) -> None:
    clients = Secrets(server.data / "keys", "client")
    name = f"leaving-{path[7:]}"
    own = clients.create(name, 1)
    assert httpx.post(f"{server.url}{path}", data={"token": "x"}, auth=(name, own)).status_code == 200
    clients.remove(name)
    answer = httpx.post(f"{server.url}{path}", data={"token": "x"}, auth=(name, own))
    refused(answer, 401, "invalid_client", "client-authentication-failed")


def test_unreadable_client_secrets_refuse_everyone(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        key = Secrets(server.data / "keys", "client").create("gateway", 1)
        bad = server.data / "keys" / "client-bad.secret"
        bad.write_text("garbage")
        bad.chmod(0o600)
        answer = httpx.post(f"{server.url}/oauth/introspect", data={"token": "x"}, auth=("gateway", key))
        refused(answer, 503, "temporarily_unavailable", "secrets-unavailable")
        assert str(tmp_path) not in answer.text
        until(lambda: f"{bad} does not hold a secret" in server.log_path.read_text())
        bad.unlink()
        answer = httpx.post(f"{server.url}/oauth/introspect", data={"token": "x"}, auth=("gateway", key))
        assert answer.json() == {"active": False}
