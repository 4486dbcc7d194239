"""Authorization as in docs/reference/authorization.md: every call of the document with every kind of credential."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from interlock.server.guard.secrets import Secrets
from tests.support.admin import admin_token
from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess, running_server

_BODIES: Final[dict[str, dict[str, Any]]] = {
    "PUT /api/admin/accounts/{account_id}/groups": {"groups": []},
    "POST /api/auth/register": {"email": "not-an-address", "password": PASSWORD},
    "POST /api/auth/login": {"email": "nobody@example.org", "password": PASSWORD},
    "POST /api/auth/refresh": {"refresh_token": "none"},
    "POST /api/intents": {"id": "x", "name": "none.such", "parameters": {}},
    "POST /api/auth/password": {"current_password": "wrong", "new_password": PASSWORD},
}
_BY_BODY: Final = {f"POST /api/auth/{name}" for name in ("login", "exchange", "refresh", "reset")}
_REFUSED_AT_THE_DOOR: Final = {
    "credential-missing",
    "credential-invalid",
    "admin-credential-missing",
    "admin-credential-invalid",
    "subscriber-credential-missing",
    "subscriber-credential-invalid",
    "client-authentication-failed",
    "signature-invalid",
}
_STREAMS: Final = {"GET /api/admin/transitions/stream", "GET /api/events/stream"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("authorization") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def operations(server: ServerProcess) -> dict[str, list[str]]:
    """Return call → the credentials in the document; none for a call that needs none."""
    document = httpx.get(f"{server.url}/schema/openapi.json").json()
    return {
        f"{method.upper()} {path}": [name for choice in operation.get("security", ()) for name in choice]
        if {} not in operation.get("security", ())
        else []
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def log_in(url: str) -> str:
    credentials = {"email": new_email(), "password": PASSWORD}
    httpx.post(f"{url}/api/auth/register", json=credentials).raise_for_status()
    token: str = httpx.post(f"{url}/api/auth/login", json=credentials).raise_for_status().json()["access_token"]
    return token


def call(server: ServerProcess, name: str, headers: dict[str, str]) -> httpx.Response:
    method, path = name.split()
    with httpx.Client(timeout=60) as http:
        form = {"token": "x"} if path.startswith("/oauth/") else None
        address = server.url + re.sub(r"\{.*?\}", "nobody", path)
        request = http.build_request(method, address, headers=headers, json=_BODIES.get(name), data=form)
        answer = http.send(request, stream=True)
        if name not in _STREAMS or answer.is_error:
            answer.read()
        return answer


def refused_at_the_door(answer: httpx.Response) -> bool:
    """Return whether the credential itself was refused, before the request was considered."""
    return answer.status_code == 401 and answer.json()["type"].rpartition(":")[2] in _REFUSED_AT_THE_DOOR


@pytest.mark.asvs("8.1.1", "8.2.1", "8.3.1")
def test_each_call_accepts_exactly_its_documented_credentials(
    server: ServerProcess, operations: dict[str, list[str]]
) -> None:
    secret = admin_token(server.data)
    client = Secrets(server.data / "keys", "client").create("gateway", 1)
    shop = Secrets(server.data / "keys", "subscriber").create("shop", 1, ("all",))
    gateway = base64.b64encode(f"gateway:{client}".encode()).decode()
    assert len(operations) > 25
    for name, wanted in operations.items():
        if name in _BY_BODY:
            continue  # the body authenticates
        opened = {
            "none": call(server, name, {}),
            "bearer": call(server, name, {"Authorization": f"Bearer {log_in(server.url)}"}),
            "admin": call(server, name, {"Authorization": f"Bearer {secret}"}),
            "subscriber": call(server, name, {"Authorization": f"Bearer {shop}"}),
            "client": call(server, name, {"Authorization": f"Basic {gateway}"}),
            "foreign": call(server, name, {"Authorization": "Bearer ilk_admin_ada_x"}),
        }
        for kind, answer in opened.items():
            may = not wanted or kind in wanted
            assert refused_at_the_door(answer) is not may, f"{name} with {kind}: {answer.status_code}"


@pytest.mark.asvs("8.2.2")
def test_another_accounts_sessions_are_invisible(server: ServerProcess) -> None:
    """Neither by its id, nor in a list, nor by a filter: a session's token reaches only its own account."""
    with httpx.Client(base_url=server.url) as http:
        own, other = ({"Authorization": f"Bearer {log_in(server.url)}"} for _ in range(2))
        others = http.get("/api/session", headers=other).json()
        answer = http.delete(f"/api/sessions/{others['session_id']}", headers=own)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:interlock:problem:not-found")
        assert answer.content == http.delete("/api/sessions/nobody", headers=own).content, "as if it were not there"
        asked = http.get(f"/api/session?session_id={others['session_id']}", headers=own)
        assert (asked.status_code, asked.json()["type"]) == (400, "urn:interlock:problem:bad-request")
        for path in ("/api/session", "/api/sessions"):
            assert others["session_id"] not in http.get(path, headers=own).text
        assert http.get("/api/session", headers=other).json()["version"] == others["version"]


@pytest.mark.asvs("8.2.3")
def test_clients_can_not_set_the_servers_fields(server: ServerProcess) -> None:
    """A request with additional fields of an account or a session is refused, and creates nothing."""
    fields: dict[str, Any] = {
        "subject": "acc_x",
        "groups": ["admin"],
        "disabled_at": None,
        "session_id": "x",
        "state": "authenticated",
    }
    with httpx.Client(base_url=server.url) as http:
        for name, value in fields.items():
            credentials = {"email": new_email(), "password": PASSWORD}
            for path in ("/api/auth/register", "/api/auth/login"):
                assert http.post(path, json=credentials | {name: value}).status_code == 400
            assert http.post("/api/session", json={name: value}).status_code == 400
            assert http.post("/api/auth/login", json=credentials).status_code == 401, "there is no such account"
