"""Request targets: a path has one spelling, so that a proxy in front judges the same path as the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.admin import recorded_admin_token
from tests.support.raw import asked, bearer, head, log_in
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("targets") / "data"
    with running_server(folder, access_token_s=3600) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> dict[str, str]:
    """Return the header with an administrator's secret."""
    return {"Authorization": f"Bearer {recorded_admin_token(server.data, 'targets')}"}


@pytest.fixture(scope="module")
def tokens(server: ServerProcess) -> dict[str, Any]:
    return log_in(server)


SPELLINGS: Final = (
    "/api/%2Fadmin/accounts",
    "/api/%2fadmin/accounts",
    "/api%2Fadmin/accounts",
    "/api%2fadmin%2faccounts",
    "/%2Fapi/admin/accounts",
    "/api//admin/accounts",
    "//api/admin/accounts",
    "///api/admin/accounts",
    "/api/admin//accounts",
    "/api/admin/accounts//",
    "/api/admin%2Faccounts",
    "/api/./admin/accounts",
    "/api/%2e/admin/accounts",
    "/api/x/../admin/accounts",
    "/api/x/%2e%2e/admin/accounts",
    "/api/x/..%2Fadmin/accounts",
    "/api/x/..;/admin/accounts",
    "/api/;/admin/accounts",
    "/api;/admin/accounts",
    "/api/admin;x=y/accounts",
    "/api/admin/accounts;x",
    "/api/admin/accounts%3b",
    "/api/admin/accounts%3F",
    "/api/admin/accounts%23",
    "/api/admin/accounts%00",
    "/api/admin/accounts%20",
    "/api/admin/accounts.",
    "/api/admin/accounts/.",
    "/api/admin/accounts/%2e",
    "/api/admin/accounts%2F",
    "/api/admin/accounts/%2F",
    "/api\\admin\\accounts",
    "/api%5cadmin%5caccounts",
    "/api/ADMIN/accounts",
    "/api/%2561dmin/accounts",
    "/api/%252Fadmin/accounts",
    "/api/admin%c0%afaccounts",
    "/api/admin%ef%bc%8faccounts",
    "/api/admin%E2%88%95accounts",
    "api/admin/accounts",
    "*/api/admin/accounts",
)
"""By RFC 3986 each differs from /api/admin/accounts, or is invalid; some readers take it for the same."""


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_of_a_path_is_another_path(
    server: ServerProcess, secret: dict[str, str], spelling: str
) -> None:
    """A proxy's rules match the path as written, so nothing may be reached under another spelling."""
    assert asked(server, head("GET /api/admin/accounts?email=a@b.example HTTP/1.1", secret)).status in {200, 404}
    response = asked(server, head(f"GET {spelling}?email=a@b.example HTTP/1.1", secret))
    assert response.status in {400, 404}
    if response.status == 404:
        assert response.problem == "not-found"


@pytest.mark.parametrize(
    "spelling",
    ["//api/session", "/api//session", "/api%2Fsession", "/api/%2Fsession", "/api/session%2F", "/api/./session"],
)
def test_no_session_is_created_at_another_spelling_of_the_path(server: ServerProcess, spelling: str) -> None:
    before = stored(server.data)
    response = asked(server, head(f"POST {spelling} HTTP/1.1", {"Content-Length": "0"}), method="POST")
    assert response.status in {400, 404}
    assert stored(server.data) == before


@pytest.mark.parametrize(
    "spelling", ["//api/forward-auth", "/api%2Fforward-auth", "/api/forward-auth%3f", "/api/forward-auth;"]
)
def test_forward_auth_has_one_spelling_too(server: ServerProcess, tokens: dict[str, Any], spelling: str) -> None:
    response = asked(server, head(f"GET {spelling} HTTP/1.1", bearer(tokens)))
    assert (response.status, response.header("remote-user")) == (404, None)


def test_needlessly_encoded_letters_are_the_same_path(server: ServerProcess) -> None:
    """RFC 3986, 6.2.2.2: unreserved characters mean the same when encoded."""
    assert asked(server, head("GET /%68ealth/live HTTP/1.1")).status == 200


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        ("http://x/health/live", {200}),
        ("HTTP://x/health/live?", {200}),
        ("HTTP://x/health/live?a=b", {400}),
        ("https://x/health/live", {200}),
        ("http://x", {200}),
        ("http://x/nothing", {404}),
        ("ftp://x/health/live", {400, 404}),
        ("*", {400, 404}),
        ("x:80", {400, 404}),
        ("?", {400, 404}),
        ("health/live", {400, 404}),
        ("/health/live#fragment", {200, 400, 404}),
        ("/health/live\x7f", {400, 404}),
        ("/health/live\xff", {400, 404}),
        ("/health/live\t", {400, 404}),
    ],
)
def test_targets_of_every_form_are_answered_once(server: ServerProcess, target: str, statuses: set[int]) -> None:
    assert asked(server, head(f"GET {target} HTTP/1.1")).status in statuses


def test_options_of_the_server_as_a_whole_is_answered(server: ServerProcess) -> None:
    """RFC 9110, 9.3.7."""
    assert asked(server, head("OPTIONS * HTTP/1.1"), method="OPTIONS").status in {200, 204, 400, 404}
