"""Corner cases of HTTP/1.1 with proxies, old clients and attackers: HEAD, half-closes, Host, targets, framing."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.admin import recorded_admin_token
from tests.support.metrics import metrics_url
from tests.support.raw import NEXT, Raw, Response, asked, bearer, head, log_in
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

JSON: Final = {"Content-Type": "application/json"}
VARYING: Final = frozenset({"date", "x-request-id", "set-cookie", "retry-after"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("corners") / "data"
    with running_server(folder, metrics_port=0, log_json=True, access_token_s=3600) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> dict[str, str]:
    """Return the header with an administrator's secret."""
    return {"Authorization": f"Bearer {recorded_admin_token(server.data, 'corners')}"}


@pytest.fixture(scope="module")
def tokens(server: ServerProcess) -> dict[str, Any]:
    return log_in(server)


def reads(server: ServerProcess, **names: str) -> dict[str, list[str]]:
    """Return every path that has GET, with parameters filled from ``names``, and its methods."""
    document = httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().json()
    paths = {
        path.format_map(_Filled(names)): sorted(methods)
        for path, methods in document["paths"].items()
        if "get" in methods
    }
    return {**paths, "/schema": ["get"], "/schema/openapi.json": ["get"], "/schema/openapi.yaml": ["get"]}


class _Filled(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "x"


ENDLESS: Final = "/api/admin/transitions/stream"


def test_head_is_answered_like_get_without_the_body(
    server: ServerProcess, tokens: dict[str, Any], secret: dict[str, str]
) -> None:
    """RFC 9110, 9.3.2. HAProxy calls forward-auth with HEAD."""
    account = httpx.get(f"{server.url}/api/session", headers=bearer(tokens)).raise_for_status().json()["subject"]
    paths = reads(server, session_id=tokens["session_id"], account_id=account, subject=account)
    assert {"/api/session", "/api/forward-auth", "/.well-known/jwks.json", "/health/ready", ENDLESS} <= set(paths)
    for path in [
        *paths,
        "/nothing/here",
        "/api/admin/accounts?email=nobody@example.org",
        "/api/session/transitions?limit=1",
    ]:
        for shown in ({}, bearer(tokens), secret):
            with Raw(server.url) as raw:
                raw.send(head(f"HEAD {path} HTTP/1.1", shown))
                told = raw.response("HEAD")
                raw.send(NEXT)
                assert raw.response().body.startswith(b'{"keys":'), (path, "it has no body")
            if path == ENDLESS and told.status == 200:
                assert told.header("content-length") is None
                continue
            whole = asked(server, head(f"GET {path} HTTP/1.1", shown))
            assert told.status == whole.status, (path, shown)
            assert kept(told) == kept(whole), (path, shown)


def kept(response: Response) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in response.headers if name not in VARYING)


def test_the_metrics_port_answers_head(server: ServerProcess) -> None:
    with Raw(metrics_url(server).removesuffix("/metrics")) as raw:
        raw.send(head("HEAD /metrics HTTP/1.1"), head("GET /metrics HTTP/1.1"))
        assert raw.response("HEAD").status == 200
        assert b"interlock_build_info" in raw.response().body


def test_a_path_that_is_read_lists_head_among_its_methods(server: ServerProcess) -> None:
    for path, methods in reads(server).items():
        response = asked(server, head(f"TRACE {path} HTTP/1.1"), method="TRACE")
        allowed = (response.header("allow") or "").split(", ")
        assert response.status == 405, path
        assert {"GET", "HEAD"} <= set(allowed), path
        assert {method.upper() for method in methods} <= set(allowed), path


def test_a_client_that_half_closes_gets_its_answer(server: ServerProcess, tokens: dict[str, Any]) -> None:
    """RFC 9112, 9.6. The answer may take a while: a disk, or a password hash."""
    login = b'{"email":"nobody@example.org","password":"correct horse battery staple"}'
    body = {**JSON, "Content-Length": str(len(login))}
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(login), login)
    for message, status in (
        (head("GET /health/live HTTP/1.1"), 200),
        (head("GET /health/live HTTP/1.0"), 200),
        (head("GET /health/live HTTP/1.1", {"Connection": "close"}), 200),
        (head("GET /api/forward-auth HTTP/1.1", bearer(tokens)), 200),
        (head("GET /schema/openapi.json HTTP/1.1"), 200),
        (head("GET /api/session HTTP/1.1", bearer(tokens)), 200),
        (head("GET /api/connect HTTP/1.1"), 426),
        (head("POST /api/session HTTP/1.1", {"Content-Length": "0"}), 201),
        (head("POST /api/auth/login HTTP/1.1", body) + login, 401),
        (head("POST /api/auth/login HTTP/1.1", {**JSON, "Transfer-Encoding": "chunked"}) + chunks, 401),
        (head("GET /nothing/here HTTP/1.1", {"Content-Length": "3"}) + b"abc", 404),
    ):
        for segments in ([message], [message[:20], message[20:]], [message[:-1], message[-1:]]):
            with Raw(server.url) as raw:
                raw.send(*segments)
                raw.finish()
                assert raw.response(message.split(b" ")[0].decode()).status == status, message
                assert raw.rest() == b"", message


def test_a_half_closed_clients_request_is_executed(server: ServerProcess) -> None:
    before = stored(server.data)[0]
    with Raw(server.url) as raw:
        raw.send(head("POST /api/session HTTP/1.1", {"Content-Length": "0"}))
        raw.finish()
        assert raw.response("POST").status == 201
    assert stored(server.data)[0] == before + 1


HOSTS: Final = {
    "none": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two": b"GET /health/live HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "two that differ": b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: y\r\nhost: y\r\n\r\n",
    "a list": b"GET /health/live HTTP/1.1\r\nHost: x, y\r\n\r\n",
    "a space": b"GET /health/live HTTP/1.1\r\nHost: x y\r\n\r\n",
    "a path": b"GET /health/live HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a user": b"GET /health/live HTTP/1.1\r\nHost: a@x\r\n\r\n",
    "two in HTTP/1.0": b"GET /health/live HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "another than the target's": b"GET http://y/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "none beside the target's": b"GET http://x/health/live HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("message", HOSTS.values(), ids=HOSTS)
def test_a_request_of_http_1_1_has_one_host(server: ServerProcess, message: bytes) -> None:
    """RFC 9112, 3.2. Behind proxies, Host determines the application."""
    with Raw(server.url) as raw:
        raw.send(message + NEXT)
        response = raw.response()
        assert (response.status, response.problem, response.closes) == (400, "bad-request", True)
        assert raw.rest() == b""


@pytest.mark.parametrize("host", ["x", "x.example:8700", "127.0.0.1", "[::1]:80", "xn--bcher-kva.example", ""])
def test_valid_host_headers_are_accepted(server: ServerProcess, host: str) -> None:
    assert asked(server, head("GET /health/live HTTP/1.1", {"Host": host})).status == 200


def test_http_1_0_needs_no_host_and_ends_the_connection(server: ServerProcess) -> None:
    for lines in (b"", b"Host: x\r\n"):
        with Raw(server.url) as raw:
            raw.send(b"GET /health/live HTTP/1.0\r\n%s\r\n" % lines)
            assert raw.response().status == 200
            assert raw.rest() == b""


def test_http_1_0_keeps_the_connection_on_request(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        for _ in range(3):
            raw.send(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = raw.response()
            assert response.status == 200
            assert (response.header("connection") or "").lower() == "keep-alive"


@pytest.mark.parametrize("target", ["x:443", "127.0.0.1:22", "/health/live", "/api/connect"])
def test_connect_opens_no_tunnel(server: ServerProcess, target: str) -> None:
    with Raw(server.url) as raw:
        raw.send(head(f"CONNECT {target} HTTP/1.1") + NEXT)
        response = raw.response("CONNECT")
        assert response.status in {400, 405, 501}
        assert response.closes
        assert raw.rest() == b""


@pytest.mark.parametrize(
    "method", ["get", "Get", "post", "PROPFIND", "PRI", "M-SEARCH", "QUERY", "PURGE", "FOO", "G@T", "GE T", ""]
)
def test_unknown_methods_are_refused(server: ServerProcess, method: str) -> None:
    before = stored(server.data)
    response = asked(server, head(f"{method} /api/session HTTP/1.1", {"Content-Length": "0"}), method=method)
    assert response.status in {400, 405, 501}
    assert response.problem
    assert stored(server.data) == before


@pytest.mark.parametrize(
    "version", ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/1", "HTTP/1.10", "http/1.1", "HTP/1.1", "ICE/1.0", ""]
)
def test_other_http_versions_are_refused_and_end_the_connection(server: ServerProcess, version: str) -> None:
    with Raw(server.url) as raw:
        raw.send(head(f"GET /health/live {version}") + NEXT)
        said = raw.rest()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def test_the_http_2_preface_is_refused_and_ends_the_connection(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        said = raw.rest()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def gzipped(**headers: str) -> bytes:
    body = gzip.compress(b"{}")
    return head("POST /api/session HTTP/1.1", {**JSON, "Content-Length": str(len(body)), **headers}) + body


@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "unknown"]
)
def test_a_body_with_a_content_coding_is_refused_with_415(server: ServerProcess, coding: str) -> None:
    """RFC 9110, 15.5.16: undecoded it would be malformed, and decoded it could be large."""
    before = stored(server.data)
    response = asked(server, gzipped(**{"Content-Encoding": coding}), method="POST")
    assert (response.status, response.problem) == (415, "unsupported-media-type")
    fields = {"Content-Encoding": f"identity\r\nContent-Encoding: {coding}"}
    assert asked(server, gzipped(**fields), method="POST").status == 415, "the second of two fields"
    assert stored(server.data) == before


def test_an_empty_or_identity_content_coding_is_accepted(server: ServerProcess) -> None:
    for coding in ("identity", "Identity"):
        message = (
            head("POST /api/session HTTP/1.1", {**JSON, "Content-Length": "2", "Content-Encoding": coding}) + b"{}"
        )
        assert asked(server, message, method="POST").status == 201


def test_accept_encoding_changes_no_response(server: ServerProcess) -> None:
    """Compressed secrets beside text of an attacker can be guessed (BREACH)."""
    response = asked(
        server, head("GET /schema/openapi.json HTTP/1.1", {"Accept-Encoding": "gzip, br, *", "TE": "trailers, gzip"})
    )
    assert response.header("content-encoding") is None
    assert response.body.startswith(b"{")


def sized(size: int, how: str) -> bytes:
    fixed = head("GET /health/live HTTP/1.1", {"X-Long": ""})
    match how:
        case "a header":
            return head("GET /health/live HTTP/1.1", {"X-Long": "x" * (size - len(fixed))})
        case "the target":
            return head(f"GET /health/live?{'x' * (size - len(fixed) - 1)} HTTP/1.1", {"X-Long": ""})
    lines = {f"X-{number:02}": "x" * (size // 100 - 8) for number in range(98)}
    return head("GET /health/live HTTP/1.1", lines)


@pytest.mark.parametrize("how", ["a header", "the target", "many headers"])
@pytest.mark.parametrize("port", ["api", "metrics"])
@pytest.mark.parametrize("limit", [4_096, 16_384, 131_072])
def test_the_size_limit_of_a_request_head_is_a_setting(tmp_path: Path, limit: int, port: str, how: str) -> None:
    with running_server(tmp_path / "data", header_bytes=limit, metrics_port=0, log_json=True) as server:
        url = server.url if port == "api" else metrics_url(server).removesuffix("/metrics")
        for size, statuses in ((limit - 200, {200, 400, 404}), (limit + limit // 4, {431})):
            with Raw(url) as raw:
                raw.send(sized(size, how))
                assert raw.response().status in statuses, size


def test_a_request_head_may_have_sixteen_kib_by_default(server: ServerProcess) -> None:
    for how in ("a header", "the target", "many headers"):
        assert asked(server, sized(16_000, how)).status == (400 if how == "the target" else 200)
        with Raw(server.url) as raw:
            raw.send(sized(20_000, how))
            response = raw.response()
            assert (response.status, response.problem, response.closes) == (431, "headers-too-large", True)
