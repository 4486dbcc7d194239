"""Browsers: the refresh token is in a cookie that scripts can't read, and only pages of allowed origins may use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.cookies import SimpleCookie

import httpx
import pytest
import websockets

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, new_email
from tests.support.metrics import whole_log
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

NAME = "__Host-interlock"
DEVICE = "__Host-interlock-device"
APP = "https://app.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("cookies") / "data", origins=f"{APP},https://other.example") as process:
        yield process


class Page:
    """A page in a browser: every request carries its origin, and the cookie where requested."""

    def __init__(self, url: str, origin: str = APP) -> None:
        self.http = httpx.Client(base_url=url, timeout=30)
        self.origin = origin
        self.email = new_email()
        self.cookie: str | None = None
        self.access_token: str | None = None

    def post(self, path: str, body: object = None, *, bearer: bool = False) -> httpx.Response:
        headers = {"origin": self.origin, "sec-fetch-site": "same-origin"}
        if self.cookie is not None:
            headers["cookie"] = f"theme=dark; {NAME}={self.cookie}; x=y"
        if bearer:
            headers["authorization"] = f"Bearer {self.access_token}"
        answer = self.http.post(path, json=body, headers=headers) if body else self.http.post(path, headers=headers)
        if "set-cookie" in answer.headers:
            self.cookie = set_cookies(answer)[NAME].value or None
        if answer.is_success and answer.content:
            self.access_token = answer.json().get("access_token", self.access_token)
        return answer

    def register(self) -> None:
        self.post("/api/auth/register", {"email": self.email, "password": PASSWORD}).raise_for_status()

    def log_in(self) -> httpx.Response:
        return self.post("/api/auth/login", {"email": self.email, "password": PASSWORD})


def set_cookies(answer: httpx.Response) -> SimpleCookie:
    """Return every cookie that the answer sets."""
    cookies = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        cookies.load(line)
    return cookies


@pytest.fixture
def page(server: ServerProcess) -> Iterator[Page]:
    page = Page(server.url)
    with page.http:
        page.register()
        yield page


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("type", "").rpartition(":")[2]


@pytest.mark.asvs("3.3.1", "3.3.2", "3.3.3", "3.3.4", "3.3.5")
def test_every_cookie_is_host_only_secure_http_only_and_same_site(page: Page) -> None:
    answers = [page.post("/api/session"), page.log_in(), page.post("/api/auth/refresh"), page.post("/api/auth/logout")]
    cookies = [set_cookies(answer.raise_for_status()) for answer in answers]
    marker = f"{NAME}-{answers[0].json()['session_id']}"
    # A session new to the browser sets a marker; this page does not keep it, so each answer sets it again.
    assert [set(each) for each in cookies] == [{NAME, marker}, {NAME, DEVICE, marker}, {NAME, marker}, {NAME}]
    for morsel in (morsel for each in cookies for morsel in each.values()):
        assert morsel["secure"], morsel.key
        assert morsel["httponly"], morsel.key
        assert morsel["samesite"].lower() == "strict", morsel.key
        assert (morsel["path"], morsel["domain"]) == ("/", ""), morsel.key
        assert len(morsel.key) + len(morsel.value) <= 4096, morsel.key


@pytest.mark.asvs("3.3.4", "10.1.1")
def test_a_pages_refresh_token_is_only_in_an_http_only_cookie(page: Page) -> None:
    for answer in (page.post("/api/session"), page.log_in(), page.post("/api/auth/refresh")):
        answer.raise_for_status()
        assert "refresh_token" not in answer.json()
        morsel = set_cookies(answer)[NAME]
        assert morsel.value.startswith(answer.json()["session_id"])
        assert morsel.value not in answer.text
        assert morsel["httponly"]
        assert 43_000 < int(morsel["max-age"]) <= 43_200, "as long as the session can live at the longest"


def test_a_program_gets_the_refresh_token_in_the_body_and_no_cookie(server: ServerProcess) -> None:
    answer = httpx.post(f"{server.url}/api/session").raise_for_status()
    assert answer.json()["refresh_token"]
    assert "set-cookie" not in answer.headers


def test_a_login_upgrades_the_session_of_the_cookie(page: Page) -> None:
    session_id = page.post("/api/session").json()["session_id"]
    assert page.log_in().json()["session_id"] == session_id
    assert page.log_in().json()["session_id"] == session_id, "and once more by the same subject"


def test_a_stale_or_foreign_cookie_does_not_prevent_a_login(page: Page) -> None:
    page.cookie = "garbage"
    first = page.log_in().raise_for_status().json()["session_id"]
    assert page.cookie is not None
    page.cookie = page.cookie[:-1] + ("A" if page.cookie[-1] != "A" else "B")
    second = page.log_in().raise_for_status().json()["session_id"]
    assert first != second


def test_a_login_of_another_user_ends_the_jars_session(page: Page, server: ServerProcess) -> None:
    page.log_in().raise_for_status()
    theirs = {"authorization": f"Bearer {page.access_token}"}
    other = Page(server.url)
    with other.http:
        other.register()
        other.cookie = page.cookie
        other.log_in().raise_for_status()
    assert problem(page.http.get("/api/session", headers=theirs)) == (401, "session-ended")


def test_each_refresh_by_cookie_sets_a_new_cookie(page: Page) -> None:
    page.log_in().raise_for_status()
    first = page.cookie
    seen = {first}
    for cookie in (first, first, None, first):
        page.cookie = page.cookie if cookie is None else cookie
        page.post("/api/auth/refresh").raise_for_status()
        assert page.cookie not in seen, "another tab with the cookie before, within the grace, gets one of its own"
        seen.add(page.cookie)


@pytest.mark.asvs("7.4.1", "14.3.1")
def test_logout_by_cookie_ends_the_session_and_clears_the_cookie(page: Page) -> None:
    page.log_in().raise_for_status()
    copied = page.cookie
    answer = page.post("/api/auth/logout")
    assert answer.status_code == 204
    morsel = set_cookies(answer)[NAME]
    assert (morsel.value, morsel["max-age"], morsel["path"]) == ("", "0", "/")
    assert morsel["secure"]
    assert problem(page.post("/api/auth/logout")) == (401, "credential-missing")
    page.cookie = copied
    assert problem(page.post("/api/auth/refresh")) == (401, "session-ended"), "not only the browser forgets it"


@pytest.mark.asvs("3.5.1")
@pytest.mark.parametrize(
    "path",
    [
        "/api/session",
        "/api/auth/register",
        "/api/auth/login",
        "/api/auth/exchange",
        "/api/auth/refresh",
        "/api/auth/logout",
        "/api/auth/password",
    ],
)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://app.example", f"{APP}.evil.example", "x", "http://["]
)
def test_a_foreign_page_is_refused_and_changes_nothing(
    page: Page, server: ServerProcess, path: str, origin: str
) -> None:
    page.log_in().raise_for_status()
    before, cookie = stored(server.data), page.cookie
    page.origin = origin
    bodies = {
        "/api/auth/login": {"email": page.email, "password": PASSWORD},
        "/api/auth/register": {"email": new_email(), "password": PASSWORD},
        "/api/auth/password": {"current_password": PASSWORD, "new_password": PASSWORD},
    }
    answer = page.post(path, bodies.get(path), bearer=path == "/api/auth/password")
    assert answer.status_code == 403, answer.text
    assert problem(answer) == (403, "origin-refused")
    assert "set-cookie" not in answer.headers
    assert (stored(server.data), page.cookie) == (before, cookie)


def test_a_foreign_page_can_not_refresh_with_a_stolen_token(page: Page, server: ServerProcess) -> None:
    """The refusal comes before the token is exchanged."""
    page.log_in().raise_for_status()
    before = stored(server.data)
    token, page.cookie, page.origin = page.cookie, None, "https://evil.example"
    assert problem(page.post("/api/auth/refresh", {"refresh_token": token})) == (403, "origin-refused")
    assert stored(server.data) == before


@pytest.mark.asvs("3.5.1")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_without_origin_is_judged_by_sec_fetch_site(server: ServerProcess, site: str) -> None:
    answer = httpx.post(f"{server.url}/api/session", headers={"sec-fetch-site": site})
    assert answer.status_code == 403, answer.text
    assert problem(answer) == (403, "origin-refused")


def test_the_servers_own_pages_are_allowed(server: ServerProcess) -> None:
    answer = httpx.post(f"{server.url}/api/session", headers={"origin": server.url})
    assert answer.status_code == 201


def test_without_a_page_the_cookie_is_no_credential(page: Page) -> None:
    page.log_in().raise_for_status()
    answer = page.http.get("/api/session", headers={"cookie": f"{NAME}={page.cookie}"})
    assert problem(answer) == (401, "credential-missing")


@pytest.mark.asvs("3.3.3")
@pytest.mark.parametrize(
    ("held", "counts"),
    [
        (b"__Host-interlock=%s", True),
        (b"theme=dark;\t__Host-interlock=%s \t; x=y", True),
        # To a browser these are other names, which a sibling host may set.
        (b"\xa0__Host-interlock=%s", False),
        (b"theme=dark; \x85__Host-interlock=%s", False),
        (b"\xc2\xa0__Host-interlock=%s", False),
        (b"__host-interlock=%s", False),
        (b'x="__Host-interlock=%s"', False),
        # A browser holds one cookie of the name, so a second one is not its own.
        (b"__Host-interlock=%s; __Host-interlock=x", False),
        (b"__Host-interlock=; __Host-interlock=%s", False),
        (b"__Host-interlock=%s; \xa0__Host-interlock=x", True),
    ],
)
def test_every_endpoint_reads_only_a_unique_cookie_of_the_exact_name(page: Page, held: bytes, *, counts: bool) -> None:
    """Otherwise a sibling host could plant one, and two parts of the server could use different ones."""
    page.log_in().raise_for_status()
    headers = [(b"cookie", held % (page.cookie or "").encode()), (b"origin", APP.encode())]
    page.http.cookies.clear()
    gate = page.http.get("/api/forward-auth", headers=headers)
    refresh, logout = (page.http.post(f"/api/auth/{path}", headers=headers) for path in ("refresh", "logout"))
    statuses = [gate.status_code, refresh.status_code, logout.status_code]
    assert statuses == ([200, 200, 204] if counts else [401, 401, 401])
    if not counts:
        assert {problem(each) for each in (gate, refresh, logout)} == {(401, "credential-missing")}


def test_the_cookie_may_be_in_any_of_several_cookie_headers(page: Page) -> None:
    """Proxies split a browser's HTTP/2 cookies like this (RFC 9113, 8.2.3)."""
    page.log_in().raise_for_status()
    own, other = (b"cookie", f"{NAME}={page.cookie}".encode()), (b"cookie", b"theme=dark")
    page.http.cookies.clear()
    for cookies, status in (((other, own), 200), ((own, other), 200), ((own, other, own), 401)):
        headers = [*cookies, (b"origin", APP.encode())]
        assert page.http.get("/api/forward-auth", headers=headers).status_code == status
        assert page.http.post("/api/auth/refresh", headers=headers).status_code == status


@pytest.mark.asvs("4.4.2")
@asynchronous
async def test_a_cookie_opens_no_socket(server: ServerProcess) -> None:
    """It would use the refresh token without an exchange: a copy could keep a socket open unnoticed."""
    page = Page(server.url)
    with page.http:
        page.register()
        session = page.log_in().raise_for_status().json()
        bearer = {"Authorization": f"Bearer {session['access_token']}"}
        async with Client(server.url) as client:
            cookie = {"Cookie": f"theme=dark; {NAME}={page.cookie}"}
            for origin in (APP, "https://other.example", None):
                async with client.connect(origin=origin, additional_headers=cookie) as socket:
                    assert await closed(socket) == (4401, "not authenticated: no credential")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await client.connect(origin="https://evil.example", additional_headers=cookie)
            assert refused.value.response.status_code == 403
            # The cookie is harmless beside another credential.
            async with client.connect(origin=APP, additional_headers=cookie | bearer) as socket:
                assert json.loads(await socket.recv())["type"] == "hello"
        steps = page.http.get("/api/session/transitions", headers=bearer).json()
        assert [step["event"] for step in steps].count("connect") == 1


@pytest.mark.asvs("16.2.5")
def test_the_servers_log_holds_no_credential(server: ServerProcess, page: Page) -> None:
    page.log_in().raise_for_status()
    said = whole_log(server)
    assert page.cookie is not None
    assert page.cookie not in said
    assert PASSWORD not in said
