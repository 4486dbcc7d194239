"""Headers: what every response tells a browser, whichever layer sends it, and what pages of other origins may read."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from tests.support.client import PASSWORD, new_email
from tests.support.metrics import whole_log
from tests.support.server import ServerProcess, running_server

APP: Final = "https://app.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(
        tmp_path_factory.mktemp("headers") / "data", origins=f"{APP},https://x.example:8443"
    ) as process:
        yield process


@pytest.fixture(scope="module")
def bearer(server: ServerProcess) -> dict[str, str]:
    credentials = {"email": new_email(), "password": PASSWORD}
    httpx.post(f"{server.url}/api/auth/register", json=credentials).raise_for_status()
    tokens = httpx.post(f"{server.url}/api/auth/login", json=credentials).raise_for_status().json()
    return {"authorization": f"Bearer {tokens['access_token']}"}


def of_the_connection(server: ServerProcess) -> httpx.Response:
    """Return the answer to invalid HTTP, which the application never sees."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 30) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        said = b""
        while part := connection.recv(4096):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def of_handshake(server: ServerProcess, origin: str, path: str = "/api/connect") -> httpx.Response:
    """Return the answer to a WebSocket handshake refused over HTTP."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + path, origin=websockets.Origin(origin), open_timeout=30)
    response = refused.value.response
    return httpx.Response(
        response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body or b"")
    )


def answers(server: ServerProcess, bearer: dict[str, str]) -> Iterator[httpx.Response]:
    """Return one answer of every kind, with its status."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for method, path, headers, status in (
            ("POST", "/api/session", {}, 201),
            ("GET", "/api/session", bearer, 200),
            ("GET", "/api/session", {}, 401),
            ("HEAD", "/api/session", bearer, 200),
            ("HEAD", "/api/session", {}, 401),
            ("OPTIONS", "/api/session", {}, 204),
            ("PUT", "/api/session", {}, 405),
            ("TRACE", "/api/session", {}, 405),
            ("POST", "/api/session", {"origin": "https://evil.example"}, 403),
            ("POST", "/api/session/ticket", bearer, 201),
            ("GET", "/nothing/here", {}, 404),
            ("GET", "/api/connect", {}, 426),
            ("GET", "/health/ready", {}, 200),
            ("GET", "/.well-known/jwks.json", {}, 200),
            ("GET", "/schema", {}, 200),
            ("GET", "/schema/openapi.yaml", {}, 200),
            ("GET", "/api/forward-auth", {}, 401),
            ("GET", "/api/forward-auth", bearer, 200),
            ("HEAD", "/api/forward-auth", bearer, 200),
            ("OPTIONS", "/api/forward-auth", {}, 204),
            ("PUT", "/api/forward-auth", {}, 405),
        ):
            answer = http.request(method, path, headers=headers)
            assert answer.status_code == status, (method, path)
            yield answer
        answer = http.post("/api/session", content=b"x" * 70_000, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        yield answer
        answer = http.post("/api/session", content=b"x", headers={"content-type": "text/plain"})
        assert answer.status_code == 415
        yield answer
    yield of_the_connection(server)
    yield of_handshake(server, "https://evil.example")
    yield of_handshake(server, server.url, "/nothing/here")
    yield of_handshake(server, server.url, "/api/forward-auth")


@pytest.mark.asvs("3.4.1", "3.4.4", "3.4.5", "3.4.6", "3.5.8")
def test_every_response_has_the_security_headers(server: ServerProcess, bearer: dict[str, str]) -> None:
    for answer in answers(server, bearer):
        headers = answer.headers
        where = f"{answer.status_code} {answer.text[:80]}"
        hsts = re.fullmatch(r"max-age=(\d+); includeSubDomains", headers.get("strict-transport-security", ""))
        assert hsts, where
        assert int(hsts[1]) >= 365 * 86_400
        for name, value in (
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
        ):
            assert headers.get_list(name) == [value], f"{name}, once: {where}"


@pytest.mark.asvs("14.3.2")
def test_only_the_public_keys_may_be_cached(server: ServerProcess, bearer: dict[str, str]) -> None:
    for answer in answers(server, bearer):
        keys = answer.status_code == 200 and answer.text.startswith('{"keys"')
        assert answer.headers.get_list("cache-control") == ["public, max-age=300" if keys else "no-store"]


@pytest.mark.asvs("4.1.1")
def test_a_body_has_its_content_type_and_text_its_charset(server: ServerProcess, bearer: dict[str, str]) -> None:
    """JSON has no charset parameter: it is always UTF-8 (RFC 8259, 8.1 and 11)."""
    for answer in answers(server, bearer):
        if not answer.content:
            continue
        kind = answer.headers["content-type"]
        if answer.is_error:
            assert kind == "application/problem+json", answer.text
            assert answer.json()["status"] == answer.status_code
        elif "json" in kind:
            answer.json()
        else:
            assert kind.startswith(("text/", "application/vnd.oai.openapi")), kind
            assert ("charset=utf-8" in kind) == kind.startswith("text/"), "YAML is UTF-8 unless it begins otherwise"


def test_no_response_names_its_software(server: ServerProcess, bearer: dict[str, str]) -> None:
    for answer in answers(server, bearer):
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers


@pytest.mark.asvs("4.1.2")
def test_no_response_redirects(server: ServerProcess, bearer: dict[str, str]) -> None:
    """A client that forgets TLS must notice; the proxy redirects people."""
    for answer in answers(server, bearer | {"x-forwarded-proto": "http"}):
        assert not answer.is_redirect
        assert "location" not in answer.headers


@pytest.mark.asvs("14.2.1")
def test_a_token_in_the_url_opens_nothing(server: ServerProcess, bearer: dict[str, str]) -> None:
    token = bearer["authorization"].removeprefix("Bearer ")
    for path, status in (("/api/session", 400), ("/api/sessions", 400), ("/api/forward-auth", 401)):
        for name in ("access_token", "token", "authorization"):
            assert httpx.get(server.url + path, params={name: token}).status_code == status
    refresh_token = httpx.post(f"{server.url}/api/session").raise_for_status().json()["refresh_token"]
    for path in ("/api/auth/refresh", "/api/auth/logout", "/api/auth/login"):
        for name in ("refresh_token", "token"):
            assert httpx.post(server.url + path, params={name: refresh_token}).status_code == 400
    said = whole_log(server)
    assert token not in said
    assert refresh_token not in said


@pytest.mark.asvs("14.3.1")
def test_logout_clears_the_origins_cache_and_storage(server: ServerProcess) -> None:
    page = {"origin": server.url, "sec-fetch-site": "same-origin"}
    answer = httpx.post(f"{server.url}/api/session", headers=page).raise_for_status()
    bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
    answer = httpx.post(f"{server.url}/api/auth/logout", headers=page | bearer)
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    bearer = {"authorization": f"Bearer {httpx.post(f'{server.url}/api/session').json()['access_token']}"}
    answer = httpx.post(f"{server.url}/api/auth/logout", headers=bearer)
    assert "clear-site-data" not in answer.headers, "a program keeps nothing that it could clear"


@pytest.mark.parametrize(
    ("setting", "sent"), [("storage", '"storage"'), ("storage,cache", '"storage", "cache"'), ("", None)]
)
def test_a_setting_says_what_a_logout_clears(tmp_path: Path, setting: str, sent: str | None) -> None:
    with running_server(tmp_path / "data", clear_site_data=setting) as server:
        page = {"origin": server.url, "sec-fetch-site": "same-origin"}
        token = httpx.post(f"{server.url}/api/session", headers=page).raise_for_status().json()["access_token"]
        answer = httpx.post(f"{server.url}/api/auth/logout", headers=page | {"authorization": f"Bearer {token}"})
        assert answer.status_code == 204
        assert answer.headers.get("clear-site-data") == sent


FOREIGN: Final = (
    "https://evil.example",
    "null",
    "",
    "*",
    "http://app.example",
    "https://app.example.evil.example",
    "https://appxexample",
    "https://APP.example",
    "https://app.example:443",
    "https://x.example",
    f"{APP},https://evil.example",
)


@pytest.mark.asvs("3.4.2")
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_may_read_nothing(server: ServerProcess, origin: str) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for method, path in (("GET", "/api/session"), ("POST", "/api/session"), ("GET", "/x"), ("OPTIONS", "/api/session")):
        answer = httpx.request(method, server.url + path, headers={"origin": origin, **preflight})
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.asvs("3.4.2")
@pytest.mark.parametrize("origin", [APP, "https://x.example:8443"])
def test_a_page_of_an_allowed_origin_may_read_responses_and_errors(server: ServerProcess, origin: str) -> None:
    for method, path in (("GET", "/api/session"), ("POST", "/api/session"), ("GET", "/x"), ("PUT", "/api/session")):
        answer = httpx.request(method, server.url + path, headers={"origin": origin})
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert {"Interlock-Receipt", "X-Request-Id"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-methods" not in answer.headers
    answer = httpx.options(
        f"{server.url}/api/sessions", headers={"origin": origin, "access-control-request-method": "GET"}
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "DELETE, GET, HEAD, OPTIONS"
    accepted = set(answer.headers["access-control-allow-headers"].split(", "))
    assert accepted == {"Authorization", "Content-Type", "traceparent", "tracestate", "X-Request-Id"}
    answer = httpx.options(f"{server.url}/api/sessions", headers={"origin": origin})
    assert "access-control-allow-methods" not in answer.headers, "asked by somebody who does not want to know"


@pytest.mark.asvs("3.4.2")
def test_without_the_setting_no_response_has_cors_headers(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as plain:
        for origin in (plain.url, APP):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            for method in ("GET", "OPTIONS", "POST"):
                answer = httpx.request(method, f"{plain.url}/api/session", headers=headers)
                assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]


@pytest.mark.asvs("3.5.1")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_sec_fetch_site_overrides_a_matching_host(server: ServerProcess, site: str) -> None:
    """A page at http:// of the same host, which a network attacker may have made, is not the server's own."""
    host = server.url.removeprefix("http://")
    headers = {"origin": f"https://{host}", "sec-fetch-site": site}
    assert httpx.post(f"{server.url}/api/session", headers=headers).status_code == 403
    assert httpx.post(f"{server.url}/api/session", headers={"origin": APP, "sec-fetch-site": site}).status_code == 201
