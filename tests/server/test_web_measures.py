"""What OWASP ASVS asks of the wire as a whole: which methods there are, and where it can be reached."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess

METHODS = {
    "/oauth/introspect": {"POST"},
    "/oauth/revoke": {"POST"},
    "/api/admin/sessions": {"GET"},
    "/api/admin/sessions/{session_id}": {"DELETE", "GET"},
    "/api/admin/sessions/{session_id}/transitions": {"GET"},
    "/api/admin/accounts": {"GET"},
    "/api/admin/accounts/{account_id}": {"GET"},
    "/api/admin/accounts/{account_id}/sessions": {"DELETE"},
    "/api/admin/accounts/{account_id}/disable": {"POST"},
    "/api/admin/accounts/{account_id}/enable": {"POST"},
    "/api/admin/accounts/{account_id}/groups": {"PUT"},
    "/api/admin/transitions": {"GET"},
    "/api/admin/transitions/stream": {"GET"},
    "/api/admin/audit": {"GET"},
    "/schema": {"GET"},
    "/schema/openapi.json": {"GET"},
    "/schema/openapi.yaml": {"GET"},
}
"""What is not for users; test_bad_requests.py has the others."""


@pytest.mark.asvs("3.5.3", "4.1.4")
@pytest.mark.parametrize("path", METHODS)
def test_any_other_method_is_refused_on_what_is_for_administrators_and_software(
    server: ServerProcess, path: str
) -> None:
    allowed = METHODS[path] | ({"HEAD"} if "GET" in METHODS[path] else set())
    for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PROPFIND", "PUT", "TRACE"):
        answer = httpx.request(method, server.url + re.sub(r"\{.*?\}", "x", path))
        assert (answer.status_code == 405) == (method not in allowed), f"{method} is answered {answer.status_code}"
        if answer.status_code == 405:
            assert {name.strip() for name in answer.headers["allow"].split(",")} - {"OPTIONS"} == allowed


def test_no_path_of_theirs_is_forgotten(server: ServerProcess) -> None:
    document: dict[str, Any] = httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().json()
    theirs = {path for path in document["paths"] if path.startswith(("/api/admin/", "/oauth/"))}
    assert theirs == {path for path in METHODS if not path.startswith("/schema")}


@pytest.mark.asvs("4.4.1")
def test_unless_told_otherwise_it_listens_for_the_proxy_on_the_same_host_alone(server: ServerProcess) -> None:
    """All of 127.0.0.0/8 is this host: whoever listens on every address answers at 127.0.0.2, too."""
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 10).close()
