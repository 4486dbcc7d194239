"""Bad requests to a real server: each gets a problem document of a stable type, and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.client import PASSWORD, new_email
from tests.support.raw import bearer
from tests.support.server import ServerProcess
from tests.support.stored import stored

JSON = {"content-type": "application/json"}


class Caller(msgspec.Struct):
    """A logged-in client, and an anonymous one."""

    http: httpx.Client
    email: str
    user: dict[str, Any]
    anonymous: dict[str, Any]
    foreign_session: str


@pytest.fixture(scope="module")
def caller(server: ServerProcess) -> Iterator[Caller]:
    with httpx.Client(base_url=server.url, timeout=30) as http:

        def log_in() -> tuple[str, dict[str, Any]]:
            credentials = {"email": new_email(), "password": PASSWORD}
            http.post("/api/auth/register", json=credentials).raise_for_status()
            return credentials["email"], http.post("/api/auth/login", json=credentials).raise_for_status().json()

        email, user = log_in()
        anonymous = http.post("/api/session").raise_for_status().json()
        yield Caller(http, email, user, anonymous, log_in()[1]["session_id"])


def check(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Check that ``answer`` is the complete problem ``name``, and repeats nothing of the request."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:interlock:problem:{name}"
    assert problem["status"] == status
    assert all(problem[field] for field in ("title", "detail", "recovery"))
    assert ("www-authenticate" in answer.headers) == (status == 401)
    return problem


BODY_ENDPOINTS = [
    ("/api/session", None),
    ("/api/auth/register", None),
    ("/api/auth/login", None),
    ("/api/auth/exchange", None),
    ("/api/auth/refresh", None),
    ("/api/auth/logout", "user"),
    ("/api/auth/password", "user"),
    ("/api/session/ticket", "user"),
]

MALFORMED = {
    "cut short": b'{"email": "a@b.org"',
    "no JSON": b"email=a@b.org",
    "single quotes": b"{'email': 'a@b.org'}",
    "a comma too many": b'{"email": "a@b.org",}',
    "two documents": b"{}{}",
    "NaN": b'{"email": NaN}',
    "bytes that are not UTF-8": b'{"email": "\xff"}',
    "UTF-16": '{"email": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL byte": b'{"email": "\x00"}',
    "only NUL bytes": bytes(10),
    "a lone surrogate": rb'{"email": "\ud800@b.org", "password": "long enough for a password"}',
    "an integer of 5,000 digits": b'{"email": 1' + b"0" * 5000 + b"}",
    "nested 20,000 deep": b"[" * 20_000,
    "nested 20,000 deep, and closed": b'{"email":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a key twice": b'{"email": "a@b.org", "email": "c@d.org", "password": "long enough for a password"}',
    "a key twice, inside": b'{"email": {"a": 1, "a": 2}}',
    "an unknown field": b'{"session_id": "mine"}',
    "an unknown field among others": b'{"email": "a@b.org", "password": "long enough for a password", "admin": true}',
    "a list": b"[]",
    "a number": b"17",
    "a text": b'"text"',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize(("path", "who"), BODY_ENDPOINTS, ids=[path for path, _ in BODY_ENDPOINTS])
def test_a_malformed_body_is_refused(
    server: ServerProcess, caller: Caller, path: str, who: str | None, body: bytes
) -> None:
    before = stored(server.data)
    headers = JSON | (bearer(caller.user) if who else {})
    problem = check(caller.http.post(path, content=body, headers=headers), 400, "bad-request")
    assert "a@b.org" not in str(problem)
    assert stored(server.data) == before


WRONG_TYPES = [
    ("/api/auth/register", {"email": 1, "password": "long enough for a password"}, "email"),
    ("/api/auth/register", {"email": None, "password": "long enough for a password"}, "email"),
    ("/api/auth/register", {"email": "a@b.org"}, "password"),
    ("/api/auth/login", {"email": ["a@b.org"], "password": "long enough for a password"}, "email"),
    ("/api/auth/login", {"email": "a@b.org", "password": True}, "password"),
    ("/api/auth/login", {"email": "a" * 321, "password": "x"}, "email"),
    ("/api/auth/login", {"email": "a@b.org", "password": "x" * 4097}, "password"),
    ("/api/auth/refresh", {"refresh_token": 7}, "refresh_token"),
    ("/api/auth/refresh", {"refresh_token": "x" * 513}, "refresh_token"),
    ("/api/auth/password", {"current_password": PASSWORD}, "new_password"),
    ("/api/auth/password", {"current_password": {}, "new_password": PASSWORD}, "current_password"),
    ("/api/auth/login", {"email": "a@b.org", "password": "x", "hunter2": True}, "body"),
    ("/api/auth/login", [], "body"),
    ("/api/auth/password", None, "body"),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG_TYPES)
def test_a_field_of_a_wrong_type_is_named(
    server: ServerProcess, caller: Caller, path: str, body: Any, field: str
) -> None:
    before = stored(server.data)
    problem = check(caller.http.post(path, json=body, headers=bearer(caller.user)), 400, "bad-request")
    (error,) = problem["errors"]
    assert error["field"] == field
    missing = body is None or (isinstance(body, dict) and field not in {"body", *body})
    assert (error["message"] == "is missing") is missing
    assert "hunter2" not in str(problem)
    assert stored(server.data) == before


OTHER_TYPES = [
    "text/plain",
    "text/plain; charset=utf-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/msgpack",
    "application/jsonp",
    "application/json-seq",
    "application",
    None,
]


@pytest.mark.asvs("3.5.2")
@pytest.mark.parametrize("content_type", OTHER_TYPES)
@pytest.mark.parametrize(("path", "who"), BODY_ENDPOINTS, ids=[path for path, _ in BODY_ENDPOINTS])
def test_a_body_not_declared_as_json_is_refused(
    server: ServerProcess, caller: Caller, path: str, who: str | None, content_type: str | None
) -> None:
    """What a form of another site can send without a preflight is never read as JSON, however similar it looks."""
    before = stored(server.data)
    headers = ({"content-type": content_type} if content_type else {}) | (bearer(caller.user) if who else {})
    body = {"email": new_email(), "password": "long enough for a password"}
    content = msgspec.json.encode({} if path in {"/api/session", "/api/auth/logout", "/api/session/ticket"} else body)
    check(caller.http.post(path, content=content, headers=headers), 415, "unsupported-media-type")
    assert stored(server.data) == before


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_declared_with_a_parameter_or_in_capitals(caller: Caller, content_type: str) -> None:
    answer = caller.http.post("/api/session", content=b" {} ", headers={"content-type": content_type})
    assert answer.status_code == 201


@pytest.mark.parametrize(("path", "who"), BODY_ENDPOINTS, ids=[path for path, _ in BODY_ENDPOINTS])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_over_64_kib_is_refused(
    server: ServerProcess, caller: Caller, path: str, who: str | None, *, chunked: bool
) -> None:
    before = stored(server.data)
    body = b'{"email": "' + b"x" * 65_536 + b'"}'
    content = (body[start : start + 4096] for start in range(0, len(body), 4096)) if chunked else body
    headers = JSON | (bearer(caller.user) if who else {})
    check(caller.http.post(path, content=content, headers=headers), 413, "too-large")
    assert stored(server.data) == before


@pytest.mark.parametrize(
    "path", ["/static", "/api", "/api/sessions/a/b", "/api/session/0", "/api/admin", "/%00", "/%ff"]
)
def test_an_unknown_path_is_not_found(caller: Caller, path: str) -> None:
    check(caller.http.get(path), 404, "not-found")


def test_the_websocket_path_over_http_asks_to_upgrade(caller: Caller) -> None:
    answer = caller.http.get("/api/connect", headers=bearer(caller.user))
    check(answer, 426, "upgrade-required")
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "upgrade")
    assert answer.headers["sec-websocket-version"] == "13"
    assert caller.http.head("/api/connect", headers=bearer(caller.user)).status_code == 426
    answer = caller.http.post("/api/connect", headers=bearer(caller.user))
    check(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


BAD_QUERIES = [
    "limit=0",
    "limit=1001",
    "limit=-1",
    "limit=many",
    "limit=",
    "limit=1.5",
    "limit=true",
    "limit=%00",
    "limit=%D9%A1",
    "limit=99999999999999999999999999",
    "after_version=-1",
    "after_version=one",
    "after_version=9007199254740993",
    "after_version=" + "9" * 5000,
]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_a_bad_query_parameter_is_named(server: ServerProcess, caller: Caller, query: str) -> None:
    before = stored(server.data)
    answer = caller.http.get(f"/api/session/transitions?{query}", headers=bearer(caller.user))
    problem = check(answer, 400, "bad-request")
    assert query.partition("=")[0] in str(problem["errors"])
    assert stored(server.data) == before


AUTHENTICATED = [
    ("GET", "/api/session"),
    ("GET", "/api/session/transitions"),
    ("POST", "/api/session/ticket"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/password"),
    ("GET", "/api/sessions"),
    ("DELETE", "/api/sessions/0"),
    ("DELETE", "/api/sessions"),
    ("GET", "/api/account"),
    ("POST", "/api/intents"),
    ("GET", "/api/executions"),
    ("GET", "/api/executions/x"),
    ("DELETE", "/api/executions/x"),
    ("GET", "/api/forward-auth"),
]

BAD_AUTHORIZATIONS = {
    "nothing": (None, "credential-missing"),
    "another scheme": ("Basic YTpi", "credential-invalid"),
    "a scheme of a longer name": ("Bearerer x", "credential-invalid"),
    "no scheme": ("x", "credential-invalid"),
    "garbage": ("Bearer garbage", "credential-invalid"),
    "a token that is not ASCII": ("Bearer \u00e9", "credential-invalid"),
    "a token of 8 KiB": ("Bearer " + "x" * 8000, "credential-invalid"),
    "a session id": ("Bearer {session_id}", "credential-invalid"),
    "a refresh token": ("Bearer {refresh_token}", "credential-invalid"),
    "a changed signature": ("Bearer {access_token}A", "credential-invalid"),
    "two tokens": ("Bearer {access_token}, Bearer {access_token}", "credential-invalid"),
}


@pytest.mark.asvs("7.2.1", "8.2.1")
@pytest.mark.parametrize(("method", "path"), AUTHENTICATED)
@pytest.mark.parametrize(("authorization", "name"), BAD_AUTHORIZATIONS.values(), ids=BAD_AUTHORIZATIONS)
def test_a_bad_credential_is_refused(
    server: ServerProcess, caller: Caller, method: str, path: str, authorization: str | None, name: str
) -> None:
    before = stored(server.data)
    headers = httpx.Headers()
    if authorization:
        headers = httpx.Headers([(b"authorization", authorization.format(**caller.user).encode("latin-1"))])
    problem = check(caller.http.request(method, path, headers=headers), 401, name)
    assert caller.user["access_token"] not in str(problem)
    assert stored(server.data) == before


@pytest.mark.asvs("8.2.1")
def test_an_anonymous_session_is_refused_what_needs_an_account(server: ServerProcess, caller: Caller) -> None:
    before = stored(server.data)
    headers = bearer(caller.anonymous)
    check(caller.http.post("/api/session/ticket", headers=headers), 403, "login-required")
    change = {"current_password": PASSWORD, "new_password": PASSWORD}
    check(caller.http.post("/api/auth/password", headers=headers, json=change), 403, "login-required")
    assert stored(server.data) == before


@pytest.mark.asvs("8.2.2")
@pytest.mark.parametrize("who", ["user", "anonymous"])
def test_another_users_session_looks_like_a_missing_one(server: ServerProcess, caller: Caller, who: str) -> None:
    before = stored(server.data)
    headers = bearer(getattr(caller, who))
    answers = [
        caller.http.delete(f"/api/sessions/{session_id}", headers=headers)
        for session_id in (caller.foreign_session, "0" * 36, "nonsense", "%00", "x" * 5000)
    ]
    for answer in answers:
        check(answer, 404, "not-found")
    assert len({answer.text for answer in answers}) == 1
    assert stored(server.data) == before


BAD_ACCOUNTS = [
    ({"email": "nobody", "password": PASSWORD}, 422, "account-refused"),
    ({"email": "a@b.org\x00", "password": PASSWORD}, 422, "account-refused"),
    ({"email": "new@example.org", "password": "x" * 14}, 422, "password-refused"),
    ({"email": "new@example.org", "password": "x" * 1025}, 422, "password-refused"),
    ({"email": "{taken}", "password": PASSWORD}, 409, "account-exists"),
]


@pytest.mark.parametrize(("body", "status", "name"), BAD_ACCOUNTS)
def test_an_invalid_registration_is_refused(
    server: ServerProcess, caller: Caller, body: dict[str, str], status: int, name: str
) -> None:
    before = stored(server.data)
    sent = {**body, "email": body["email"].replace("{taken}", caller.email)}
    check(caller.http.post("/api/auth/register", json=sent), status, name)
    assert stored(server.data) == before


def test_a_failed_login_does_not_say_why(server: ServerProcess, caller: Caller) -> None:
    before = stored(server.data)
    answers = [
        caller.http.post("/api/auth/login", json={"email": email, "password": password})
        for email, password in ((caller.email, "wrong"), ("nobody@example.org", PASSWORD), ("nonsense\x00", ""))
    ]
    for answer in answers:
        check(answer, 401, "credential-invalid")
    assert len({answer.text for answer in answers}) == 1
    assert stored(server.data) == before


@pytest.mark.parametrize("path", ["/api/auth/register", "/api/auth/login", "/api/auth/refresh"])
def test_a_missing_credential_is_refused(server: ServerProcess, caller: Caller, path: str) -> None:
    before = stored(server.data)
    check(caller.http.post(path), 401, "credential-missing")
    check(caller.http.post(path, content=b"null", headers=JSON), 400, "bad-request")
    check(caller.http.post("/api/auth/password", headers=bearer(caller.user)), 400, "bad-request")
    assert stored(server.data) == before


@pytest.mark.parametrize("token", ["", "x", "{access_token}", "{session_id}", "{session_id}.0.x", "{refresh_token}="])
def test_an_invalid_refresh_token_is_refused(server: ServerProcess, caller: Caller, token: str) -> None:
    before = stored(server.data)
    name = "credential-invalid" if token else "credential-missing"
    body = {"refresh_token": token.format(**caller.user)}
    check(caller.http.post("/api/auth/refresh", json=body), 401, name)
    assert stored(server.data) == before


def test_a_login_on_another_users_session_is_refused(server: ServerProcess, caller: Caller) -> None:
    credentials = {"email": new_email(), "password": PASSWORD}
    caller.http.post("/api/auth/register", json=credentials).raise_for_status()
    before = stored(server.data)
    answer = caller.http.post("/api/auth/login", json=credentials, headers=bearer(caller.user))
    problem = check(answer, 409, "transition-refused")
    assert (problem["event"], problem["guard"]) == ("reauthenticate", "same_subject")
    assert stored(server.data) == before


def test_a_wrong_current_password_changes_nothing(server: ServerProcess, caller: Caller) -> None:
    before = stored(server.data)
    for current, new, status, name in (
        ("wrong", "another long password", 403, "password-wrong"),
        (PASSWORD, "short", 422, "password-refused"),
    ):
        body = {"current_password": current, "new_password": new}
        check(caller.http.post("/api/auth/password", json=body, headers=bearer(caller.user)), status, name)
    assert stored(server.data) == before
    assert caller.http.get("/api/session", headers=bearer(caller.user)).status_code == 200


def test_a_token_from_before_a_login_is_no_longer_current(server: ServerProcess, caller: Caller) -> None:
    old = caller.http.post("/api/session").raise_for_status().json()
    credentials = {"email": caller.email, "password": PASSWORD}
    caller.http.post("/api/auth/login", json=credentials, headers=bearer(old)).raise_for_status()
    before = stored(server.data)
    check(caller.http.get("/api/session", headers=bearer(old)), 401, "token-expired")
    exchanged = caller.http.post("/api/auth/refresh", json={"refresh_token": old["refresh_token"]})
    check(exchanged, 401, "credential-invalid")
    assert stored(server.data) == before
