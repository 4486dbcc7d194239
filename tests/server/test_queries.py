"""Query parameters: unknown and duplicate ones are refused, on every call."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from litestar import Request, get
from litestar.routes import ASGIRoute, HTTPRoute

from interlock.server.app import app_over, build_app
from interlock.server.settings import Settings
from tests.support.admin import recorded_admin_token
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.inside import client_of
from tests.support.ports import KeptPort
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored
from tests.support.wire import services_in


def routes() -> list[tuple[str, str]]:
    """Return every method and path that is answered, with path parameters filled in."""
    found = []
    for route in build_app(Settings()).routes:
        path = "/".join("x" if part.startswith("{") else part for part in route.path_format.split("/"))
        methods = route.methods if isinstance(route, HTTPRoute) else {"GET"}
        assert isinstance(route, HTTPRoute | ASGIRoute)
        found += [(method, path) for method in sorted(methods - {"OPTIONS"})]
        found += [("HEAD", path)] if "GET" in methods and isinstance(route, HTTPRoute) else []
    return sorted(found)  # Litestar has no stable order, and each worker of a run must find the same


def ask(server: ServerProcess, method: str, target: str, **headers: str) -> tuple[int, bytes]:
    """Send ``target`` exactly as written, which a library might normalise."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


UNKNOWN = ["foo=1", "foo", "=", "=1", "a%00b=1", "%ff=1", "access_token=canary", "Limit=1", "limit%20=1", "limit[]=1"]


def test_the_list_of_routes_is_complete() -> None:
    walked = routes()
    assert len(walked) > 40
    assert {("GET", "/api/connect"), ("GET", "/schema/openapi.json"), ("POST", "/oauth/introspect")} <= set(walked)


@pytest.mark.parametrize(("method", "path"), routes())
def test_an_unknown_query_parameter_is_refused_on_every_route(server: ServerProcess, method: str, path: str) -> None:
    before = stored(server.data)
    for query in UNKNOWN:
        status, body = ask(server, method, f"{path}?{query}")
        assert status == 400, query
        assert method == "HEAD" or b"query parameter" in body
        assert b"foo" not in body
        assert b"canary" not in body, "what a client sent is not said again"
    assert stored(server.data) == before


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> dict[str, str]:
    """Return an administrator's secret."""
    return {"Authorization": f"Bearer {recorded_admin_token(server.data, 'queries')}"}


def test_an_unknown_query_parameter_is_refused_to_authorised_callers(
    server: ServerProcess, secret: dict[str, str]
) -> None:
    assert ask(server, "GET", "/api/admin/sessions", **secret)[0] == 200
    status, body = ask(server, "GET", "/api/admin/sessions?user=foo", **secret)
    assert status == 400
    assert b"this call takes after, created_from, created_to, limit, reason, state, subject, updated_from" in body


@pytest.mark.parametrize(
    "query",
    [
        "limit=1&limit=2",
        "limit=1&limit=1",
        "limit=1&%6cimit=2",
        "subject=a&subject=",
        "subject=a&subject",
        "limit=1&foo=1",
        "limit=1;foo=1",
    ],
)
def test_a_duplicate_query_parameter_or_one_beside_an_unknown_is_refused(
    server: ServerProcess, secret: dict[str, str], query: str
) -> None:
    assert ask(server, "GET", f"/api/admin/sessions?{query}", **secret)[0] == 400


@pytest.mark.parametrize("query", ["", "limit=1", "limit=1&", "%6cimit=1", "limit=1&subject=acc_a+b", "&limit=1"])
def test_known_query_parameters_are_accepted_in_any_encoding(
    server: ServerProcess, secret: dict[str, str], query: str
) -> None:
    assert ask(server, "GET", f"/api/admin/sessions?{query}", **secret)[0] == 200


def test_a_preflight_with_an_unknown_query_parameter_is_answered(server: ServerProcess) -> None:
    assert ask(server, "OPTIONS", "/api/session?foo=1")[0] == 204


@asynchronous
async def test_forward_auth_ignores_the_applications_query(server: ServerProcess) -> None:
    """Caddy calls forward-auth with it."""
    async with await logged_in(server.url) as client:
        for query in ("?foo=1", "?foo=1&foo=2", "?"):
            assert (await client.request("GET", f"/api/forward-auth{query}")).status_code == 200


@asynchronous
async def test_a_route_with_its_own_hook_checks_the_query_too(tmp_path: Path) -> None:
    asked: list[str] = []

    async def hook(_request: Request[Any, Any, Any]) -> None:
        asked.append("hook")

    @get("/hooked", before_request=hook)
    async def hooked() -> None:
        asked.append("handler")

    async with services_in(tmp_path) as services:
        app = app_over(services)
        app.register(hooked)
        async with client_of(app) as http:
            assert (await http.get("/hooked?foo=1")).status_code == 400
            assert asked == [], "nothing was done for it"
            assert (await http.get("/hooked")).status_code == 200
    assert asked == ["hook", "handler"]


@pytest.fixture
def with_metrics(tmp_path: Path) -> Iterator[str]:
    port = KeptPort()
    with running_server(tmp_path / "data", metrics_port=port.number):
        yield f"http://127.0.0.1:{port.number}/metrics"


def test_metrics_refuse_query_parameters(with_metrics: str) -> None:
    assert httpx.get(with_metrics).status_code == 200
    assert httpx.get(f"{with_metrics}?").status_code == 200
    for query in ("name[]=interlock_connections", "foo=1"):
        assert httpx.get(f"{with_metrics}?{query}").status_code == 400


def test_the_document_lists_400_for_every_calls_query(server: ServerProcess) -> None:
    document: dict[str, Any] = httpx.get(f"{server.url}/schema/openapi.json").json()
    for path, item in document["paths"].items():
        for operation in item.values():
            assert ("400" in operation["responses"]) is (path != "/api/forward-auth"), path
