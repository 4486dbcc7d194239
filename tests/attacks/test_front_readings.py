"""Requests that proxy, application and Interlock could read differently, through nginx and Caddy as in the guides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import pytest

from tests.support.admin import admin_token
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.fronts import Front, block_of, identity
from tests.support.metrics import whole_log
from tests.support.server import ServerProcess, running_server

COOKIE: Final = "__Host-interlock"
TRIES: Final = 10

PLAIN: Final = (
    "/public/",
    "/public/x",
    "/public/login/",
    "/public/a/b-c_d~e@f+g.min.css",
    "/public/x?next=/../%2fsecret;y#",
)
PROTECTED: Final = (
    "/secret/../public/x",
    "/secret/%2e%2e/public/x",
    "/secret/.%2E/public/x",
    "/secret/..%2fpublic%2fx",
    "/admin/delete/..%2f..%2fpublic%2f1",
    "/secret/..\\public/x",
    "/secret/..%5cpublic/x",
    "/secret/..;/public/x",
    "/secret;/../public/x",
    "/secret/%c0%ae%c0%ae/public/x",
    "/secret%3f/../public/x",
    "/secret%23/../public/x",
    "/secret#/../public/x",
    "/secret?/../public/x",
    "/secret%00/../public/x",
    "//public/x",
    "/./public/x",
    "//public/../secret",
    "/public",
    "/public//x",
    "/public/./x",
    "/public/..",
    "/public/../secret",
    "/public/%2e%2e/secret",
    "/public/%2e%2e%2fsecret",
    "/public/..%2fsecret",
    "/public/%252e%252e/secret",
    "/public/%252e%252e%252fsecret",
    "/public/..\\secret",
    "/public/..%5csecret",
    "/public/..;/secret",
    "/public/..;x=y/secret",
    "/public/;/../secret",
    "/public/x;y",
    "/public/x%3b/secret",
    "/public/x%00/../../secret",
    "/public/x#/../../secret",
    "/public/.hidden",
    "/public%2fx",
    "/public%5cx",
    "/%70ublic/x",
    "/PUBLIC/x",
    "/publicity",
    "\\public\\x",
)
"""Paths that some readers take to be below /public/, and others do not."""

INSIDE: Final = (
    "/api/admin/sessions",
    "/api//admin/sessions",
    "/api/%2Fadmin/sessions",
    "/api/%2f%2fadmin/sessions",
    "/api%2F/admin/sessions",
    "//api/admin/sessions",
    "/api/./admin/sessions",
    "/api/%61dmin/sessions",
    "/api/admin%2fsessions",
    "/api%2fadmin%2fsessions",
    "/api/x/../admin/sessions",
    "/api/x/..%2fadmin/sessions",
    "/api/x/..;/admin/sessions",
    "/x/..%2fapi/admin/sessions",
    "/api/ADMIN/sessions",
    "/api/admin;x/sessions",
    "/api/admin/sessions;x",
    "/api\\admin\\sessions",
    "/api/admin%5csessions",
    "/api/admin/sessions#/../../session",
    "/api/admin%23/../session",
    "/api/forward-auth",
    "/api//forward-auth",
    "/api/forward-auth/",
    "/api/forward-auth?x",
    "/api/forward-auth#",
    "/api/forward-auth%3f",
    "/api/forward-auth;x",
    "/api/%66orward-auth",
    "/api/x/..%2fforward-auth",
    "/oauth/introspect/..%2f..%2fapi/x",
    "/oauth/introspect%23/../../api/x",
    "/oauth/introspect#/../../api/x",
    "/oauth/introspect;/../../api/x",
    "/schema/..%2fapi/x",
    "/metrics/..%2fapi/x",
    "/health/ready%3f/../../api/x",
)
"""Paths that some readers take for Interlock's internal ones."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that trusts the proxy's header for the client's address, as in the guides."""
    data = tmp_path_factory.mktemp("readings") / "data"
    with running_server(data, trusted_proxies="127.0.0.1", limit_login_client=f"{TRIES}/1h") as process:
        yield process


async def user_of(front: Front) -> Client:
    """Log in a new user through the proxy; only the tokens are used."""
    async with front.client() as http:
        client = await logged_in(front.origin, http)
    front.seen()
    return client


@pytest.mark.asvs("4.1.3")
@pytest.mark.parametrize("target", PROTECTED)
def test_without_identity_only_clearly_public_paths_pass(front: Front, target: str) -> None:
    # 301: nginx redirects /public to /public/.
    assert front.say(target) in {301, 400, 401, 404}
    assert front.seen() == []


def test_clearly_public_paths_reach_the_application_unchanged(front: Front) -> None:
    passed = [target for target in PLAIN if front.say(target) == 200]
    # HAProxy refuses "#", which no client may send (RFC 9112, 3.2).
    assert [target for target in PLAIN if target not in passed and "#" not in target] == []
    assert [seen["raw_path"] for seen in front.seen()] == [target.partition("?")[0] for target in passed]
    assert front.say("/public/" + "a" * 7000) == 200


def test_traefiks_rules_exempt_the_same_public_paths() -> None:
    """Traefik does not run here: its rules are matched against the path it forwards, without dots and double slashes."""
    calls, _login, plain = re.findall(r"PathRegexp\(`(.*)\$`\)", block_of("behind-traefik.md"))
    assert calls == plain.replace("/public/", "/api/")
    for page in ("behind-nginx.md", "behind-caddy.md"):
        assert f"{plain}(\\?|$)" in block_of(page)


@pytest.mark.asvs("13.4.5")
@asynchronous
async def test_no_spelling_of_a_path_reaches_internal_endpoints(front: Front, server: ServerProcess) -> None:
    user = await user_of(front)
    secrets = (user.access_token, admin_token(server.data, uuid4().hex[:8]))
    for target in INSIDE:
        for secret in secrets:
            status = front.say(target, ("Authorization", f"Bearer {secret}"))
            # A path that the proxy does not take for Interlock's is the application's, which answers 200 to a user.
            assert status in {400, 401, 404} or (status == 200 and front.seen()), target
    front.seen()


def guess(front: Front, email: str, address: str, *headers: tuple[str, str]) -> int:
    """Return the status of a login to ``email`` with a wrong password."""
    body = json.dumps({"email": email, "password": "not the right password"}).encode()
    json_body = ("Content-Type", "application/json")
    return front.say("/api/auth/login", json_body, *headers, method="POST", body=body, address=address)


@pytest.mark.asvs("4.1.3", "6.3.1")
@asynchronous
async def test_password_guesses_count_by_the_clients_own_address(front: Front, server: ServerProcess) -> None:
    victim = await user_of(front)
    for number, (name, written) in enumerate((("X-Forwarded-For", "{}"), ("Forwarded", "for={}"), ("X-Real-IP", "{}"))):
        address = f"127.0.1.{number}"
        lie = [(name, written.format(f"203.0.113.{last}")) for last in range(TRIES + 1)]
        statuses = [guess(front, victim.email, address, said, ("Connection", name)) for said in lie]
        assert statuses == [401] * TRIES + [429], name
        assert guess(front, victim.email, address, lie[0], (name, "198.51.100.1")) == 429
    for name, written in (("X-Forwarded-For", "{}"), ("Forwarded", "for={}")):
        said = (name, written.format("127.0.2.1"))
        assert {guess(front, victim.email, "127.0.2.2", said) for _ in range(TRIES)} <= {401, 429}
        assert guess(front, victim.email, "127.0.2.1") == 401, "others are not concerned"
    assert "203.0.113." not in whole_log(server)


@asynchronous
async def test_the_application_receives_the_clients_own_address(front: Front) -> None:
    user = await user_of(front)
    lies = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "evil.example")]
    bearer = ("Authorization", f"Bearer {user.access_token}")
    for target in ("/x", "/public/x"):
        assert front.say(target, bearer, *lies, ("Forwarded", "for=203.0.113.9"), address="127.0.3.1") == 200
        (reached,) = front.seen()
        headers = [(name, value) for name, value in reached["headers"] if "forwarded" in name]
        assert sorted(headers) == [
            ("x-forwarded-for", "127.0.3.1"),
            ("x-forwarded-host", f"{front.origin.removeprefix('https://')}"),
            ("x-forwarded-proto", "https"),
        ]


@pytest.mark.asvs("4.1.3")
@asynchronous
async def test_no_header_of_the_client_removes_its_identity(front: Front) -> None:
    user = await user_of(front)
    bearer = ("Authorization", f"Bearer {user.access_token}")
    names = ("Remote-User", "REMOTE-GROUPS", "x-session-id", "X-Session-State")
    for lines in (
        *([("Connection", f"keep-alive, {name}")] for name in names),
        [("Connection", ",".join(names))],
        [("Connection", "keep-alive"), ("Connection", "remote-user")],
        [("Connection", "Upgrade,Remote-User"), ("Upgrade", "websocket")],
    ):
        status = front.say("/x", bearer, *lines)
        reached = front.seen()
        assert (status, len(reached)) in {(200, 1), (400, 0), (403, 0)}, lines
        for each in reached:
            assert identity(each).keys() == {"remote-user", "x-session-id", "x-session-state"}, lines
    for line in ("keep-alive", "close", "TE, keep-alive"):
        assert front.say("/x", bearer, ("Connection", line)) == 200


@pytest.mark.asvs("10.1.1")
@asynchronous
async def test_no_spelling_of_the_cookie_reaches_the_application(front: Front) -> None:
    user = await user_of(front)
    token = f"{COOKIE}={user.refresh_token}"
    own_page = ("Sec-Fetch-Site", "same-origin")
    bearer = ("Authorization", f"Bearer {user.access_token}")
    for written in (
        [token],
        ["theme=dark", token, "lang=en"],
        [f"{token}; {COOKIE}=x"],
        [f"{COOKIE}=x; {token}"],
        [f"{token}; {token}; {token}"],
        [f"theme=dark; {token}; lang=en; {token}"],
        [token, token],
        *(
            [f"theme=dark;{blank}{token}"]
            for blank in ("", "  ", "\t", "\x0b", "\x0c", "\xa0", "\xc2\xa0", "\u0085", '"')
        ),
        [f"\xa0{token}"],
        [f"{token}\t;theme=dark"],
        [f"theme=dark, {token}"],
        [f'theme="dark; {token}'],
        [f"{COOKIE}={token}"],
        [f"x{token}"],
    ):
        cookies = [("Cookie", line) for line in written]
        for credentials, statuses in (
            ([own_page], {200, 400, 401, 500, 503}),
            ([own_page, bearer], {200, 400, 500, 503}),
        ):
            for target in ("/x", "/public/x"):
                # 500, 503: nginx and HAProxy forward a control character, which Interlock rejects.
                assert front.say(target, *cookies, *credentials) in statuses, written
        assert user.refresh_token not in json.dumps(front.seen()), written
