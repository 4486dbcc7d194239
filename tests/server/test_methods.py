"""The methods of each path; any other is refused. Also the addresses listened on."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.stored import stored

METHODS = {
    "/api/session": {"GET", "POST"},
    "/api/session/transitions": {"GET"},
    "/api/session/ticket": {"POST"},
    "/api/auth/register": {"POST"},
    "/api/auth/login": {"POST"},
    "/api/auth/exchange": {"POST"},
    "/api/auth/refresh": {"POST"},
    "/api/auth/logout": {"POST"},
    "/api/auth/password": {"POST"},
    "/api/auth/reset": {"POST"},
    "/api/sessions": {"GET", "DELETE"},
    "/api/sessions/{session_id}": {"DELETE"},
    "/api/account": {"DELETE", "GET"},
    "/api/realms/{realm}/outcomes": {"POST"},
    "/api/events": {"GET"},
    "/api/events/stream": {"GET"},
    "/api/admin/webhooks": {"GET"},
    "/api/admin/webhooks/{name}/dead-letters": {"GET"},
    "/api/admin/webhooks/{name}/replay": {"POST"},
    "/api/admin/webhooks/{name}/enable": {"POST"},
    "/api/intents": {"POST"},
    "/api/executions": {"GET"},
    "/api/executions/{execution_id}": {"DELETE", "GET"},
    "/api/forward-auth": {"GET"},
    "/api/connect": {"GET"},
    "/oauth/introspect": {"POST"},
    "/oauth/revoke": {"POST"},
    "/api/admin/sessions": {"GET"},
    "/api/admin/sessions/{session_id}": {"DELETE", "GET"},
    "/api/admin/sessions/{session_id}/transitions": {"GET"},
    "/api/admin/accounts": {"GET"},
    "/api/admin/accounts/{account_id}": {"DELETE", "GET"},
    "/api/admin/accounts/{account_id}/sessions": {"DELETE"},
    "/api/admin/accounts/{account_id}/disable": {"POST"},
    "/api/admin/accounts/{account_id}/enable": {"POST"},
    "/api/admin/accounts/{account_id}/groups": {"PUT"},
    "/api/admin/accounts/{account_id}/reset-code": {"POST"},
    "/api/admin/executions": {"GET"},
    "/api/admin/executions/{execution_id}": {"DELETE", "GET"},
    "/api/admin/executions/{execution_id}/transitions": {"GET"},
    "/api/admin/transitions": {"GET"},
    "/api/admin/transitions/stream": {"GET"},
    "/api/admin/audit": {"GET"},
    "/api/admin/accounts/{account_id}/transitions": {"GET"},
    "/.well-known/jwks.json": {"GET"},
    "/health/live": {"GET"},
    "/health/ready": {"GET"},
    "/schema": {"GET"},
    "/schema/openapi.json": {"GET"},
    "/schema/openapi.yaml": {"GET"},
}


@pytest.mark.asvs("3.5.3", "4.1.4", "13.4.4")
@pytest.mark.parametrize("path", METHODS)
def test_a_wrong_method_gets_405_with_the_allowed_ones(server: ServerProcess, path: str) -> None:
    before = stored(server.data)
    for method in sorted({"DELETE", "GET", "PATCH", "POST", "PROPFIND", "PUT", "TRACE"} - METHODS[path]):
        answer = httpx.request(method, server.url + re.sub(r"\{.*?\}", "x", path))
        assert answer.status_code == 405, f"{method} is answered {answer.status_code}"
        told = {name.strip() for name in answer.headers["allow"].split(",")}
        assert ("HEAD" in told) == ("GET" in told)
        assert told - {"HEAD", "OPTIONS"} == METHODS[path]
    assert stored(server.data) == before


def test_the_table_of_methods_has_every_path(server: ServerProcess) -> None:
    document: dict[str, Any] = httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().json()
    assert {path for path in METHODS if not path.startswith("/schema")} == {*document["paths"], "/api/connect"}


@pytest.mark.asvs("4.4.1")
def test_by_default_the_server_listens_on_this_host_only(server: ServerProcess) -> None:
    """All of 127.0.0.0/8 is this host: a server listening on every address would answer at 127.0.0.2 too."""
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 10).close()
