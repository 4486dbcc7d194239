"""Forward-auth without a proxy: its answers to what proxies send, and the exactness of its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest

from interlock.machine.account.commands import Disable, SetGroups
from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from tests.support.asynchronous import asynchronous
from tests.support.gate import ALLOWED, COOKIE, gate_in

OWN: Final = {"x-forwarded-host": "app.example", "x-forwarded-proto": "https", "x-forwarded-method": "POST"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert not [name for name in answer.headers if name.startswith(("remote-", "x-session-"))]
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


@asynchronous
async def test_forward_auth_returns_account_groups_session_and_state(tmp_path: Path) -> None:
    async with gate_in(tmp_path, ("staff", "editors")) as gate:
        for _ in range(2):
            for credential in (gate.bearer, gate.cookie):
                answer = await gate.ask(credential)
                assert (answer.status_code, answer.content) == (200, b"")
                told = {name: answer.headers[name] for name in answer.headers if name.startswith(("remote", "x-s"))}
                assert told == {
                    "remote-user": "ada",
                    "remote-groups": "staff,editors",
                    "remote-email": "",
                    "remote-name": "",
                    "x-session-id": gate.session.session_id,
                    "x-session-state": "authenticated",
                }


@asynchronous
async def test_an_account_with_an_invalid_group_does_not_pass(tmp_path: Path) -> None:
    """No server stored such a group. The others are not sent alone, because an application may deny access by this one."""
    for number, name in enumerate(("staff,admin", "a\r\nremote-user: root", 'quo"te', " admin", "bücher", "x" * 2049)):
        async with gate_in(tmp_path / str(number), ("staff", name)) as gate:
            answer = await gate.ask(gate.bearer)
            assert problem(answer) == (503, "unavailable")
            assert name not in answer.text


@asynchronous
async def test_forward_auth_answers_traefiks_requests(tmp_path: Path) -> None:
    """Emulated from Traefik's documentation: a GET with the client's headers, no body, and five headers of its own."""
    async with gate_in(tmp_path) as gate:
        for method, site, status in (
            ("GET", "same-origin", 200),
            ("POST", "same-origin", 200),
            ("POST", "cross-site", 403),
            ("DELETE", "same-site", 403),
        ):
            headers = {
                "user-agent": "Mozilla/5.0",
                "accept-encoding": "gzip",
                "remote-user": "root",
                "x-forwarded-for": "203.0.113.7",
                "x-forwarded-host": "app.example",
                "x-forwarded-method": method,
                "x-forwarded-proto": "https",
                "x-forwarded-uri": "/things?x=1",
            }
            headers |= gate.cookie | {"sec-fetch-site": site}
            answer = await gate.ask(headers)
            assert answer.status_code == status, (method, site)
            if status == 200:
                assert answer.headers.get_list("remote-user") == ["ada"]
            else:
                problem(answer)


@pytest.mark.asvs("3.5.1", "4.4.2")
@pytest.mark.parametrize(
    ("origin", "proto", "passes"),
    [
        ("https://app.example", "https", True),
        ("https://app.example", "http", True),
        ("http://app.example", "http", True),
        ("http://app.example", "https", False),
        (ALLOWED, "https", True),
        ("https://evil.example", "https", False),
        ("https://app.example.evil.example", "https", False),
        ("https://app.example:8443", "https", False),
        ("", "https", False),
        ("\xff", "https", False),
    ],
)
@asynchronous
async def test_forward_auth_judges_the_cookie_by_the_pages_origin(
    tmp_path: Path, origin: str, proto: str, *, passes: bool
) -> None:
    async with gate_in(tmp_path) as gate:
        headers = gate.cookie | OWN | {"x-forwarded-proto": proto, "origin": origin}
        answer = await gate.ask({name: value.encode("latin-1") for name, value in headers.items()})  # type: ignore[misc]  # bytes are allowed
        assert (answer.status_code == 200) == passes
        if not passes:
            assert problem(answer) == (403, "origin-refused")


@pytest.mark.asvs("3.5.1", "3.5.3", "3.5.8")
@pytest.mark.parametrize(
    ("method", "site", "mode", "dest", "passes"),
    [
        ("GET", "same-origin", "cors", "empty", True),
        ("GET", "none", "navigate", "document", True),
        ("GET", "cross-site", "navigate", "document", True),
        ("GET", "same-site", "navigate", "document", True),
        ("GET", "cross-site", "navigate", "iframe", False),
        ("GET", "cross-site", "no-cors", "image", False),
        ("GET", "same-site", "no-cors", "script", False),
        ("GET", "same-site", "cors", "empty", False),
        ("GET", "unheard-of", "cors", "empty", False),
        ("POST", "cross-site", "navigate", "document", False),
        ("POST", "same-site", "navigate", "document", False),
        ("POST", "same-origin", "cors", "empty", True),
        ("TRACE", "cross-site", "cors", "empty", False),
        ("GET", "", "", "", True),
        ("HEAD", "", "", "", True),
        ("POST", "", "", "", False),
        ("get", "", "", "", False),
        ("", "", "", "", False),
    ],
)
@asynchronous
async def test_forward_auth_without_an_origin_judges_by_the_site(
    tmp_path: Path, method: str, site: str, mode: str, dest: str, *, passes: bool
) -> None:
    async with gate_in(tmp_path) as gate:
        headers = gate.cookie | OWN
        headers["x-forwarded-method"] = method
        headers |= {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
        answer = await gate.ask({name: value for name, value in headers.items() if value})
        assert (answer.status_code == 200) == passes
        assert (await gate.ask(headers | gate.bearer)).status_code == 200, "no page can add a bearer token"


@asynchronous
async def test_without_a_forwarded_host_no_page_is_the_applications_own(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        assert problem(await gate.ask(gate.cookie | {"origin": "https://"})) == (403, "origin-refused")


@asynchronous
async def test_forward_auth_accepts_the_last_cookie_within_its_grace(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        before = gate.cookie
        await gate.refresh()
        for cookie in (before, gate.cookie, before):
            assert (await gate.ask(cookie)).status_code == 200
        gate.later(11_000)
        assert problem(await gate.ask(before)) == (401, "token-expired")
        assert (await gate.ask(gate.cookie)).status_code == 200, "and nobody was logged out for it"
        older = gate.cookie
        await gate.refresh()
        await gate.refresh()
        assert (await gate.ask(older)).status_code == 200, "the one before the one before"
        gate.later(10_000)
        assert problem(await gate.ask(older)) == (401, "token-expired")


@asynchronous
async def test_forward_auth_refuses_bad_credentials(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        anonymous = (await gate.services.sessions.begin("anonymous")).instance
        assert problem(await gate.ask()) == (401, "credential-missing")
        assert problem(await gate.ask({"cookie": "theme=dark"})) == (401, "credential-missing")
        assert problem(await gate.ask({"cookie": f"x{COOKIE}=1; x={COOKIE}=2"})) == (401, "credential-missing")
        assert problem(await gate.ask({"authorization": "Basic YTpi"})) == (401, "credential-invalid")
        assert problem(await gate.ask({"authorization": "Bearer x"})) == (401, "credential-invalid")
        assert problem(await gate.ask({"cookie": f"{COOKIE}=x", "sec-fetch-site": "none"}))[0] == 401
        token = gate.services.tokens.access_token(anonymous)
        assert problem(await gate.ask({"authorization": f"Bearer {token}"})) == (403, "login-required")
        nobody = msgspec.structs.replace(gate.session, session_id="0" * 36)
        token = gate.services.tokens.access_token(nobody)
        assert problem(await gate.ask({"authorization": f"Bearer {token}"})) == (401, "session-not-found")


@pytest.mark.asvs("7.4.1")
@asynchronous
async def test_every_forward_auth_answer_checks_the_session(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        old, cookie = gate.bearer, gate.cookie
        assert (await gate.ask(old)).status_code == 200
        await gate.services.sessions.authenticate(gate.session, Authenticate("ada", "password"))
        assert problem(await gate.ask(old)) == (401, "token-expired"), "of before the login"
        assert problem(await gate.ask(cookie)) == (401, "credential-invalid")
        gate.session = await gate.services.sessions.load(gate.session.session_id)
        bearer, cookie = gate.bearer, gate.cookie
        assert (await gate.ask(bearer)).status_code == 200
        assert (await gate.ask(cookie)).status_code == 200
        await gate.services.sessions.end(gate.session, "revoked", "ada")
        assert problem(await gate.ask(bearer)) == (401, "session-ended")
        assert problem(await gate.ask(cookie)) == (401, "session-ended")


@pytest.mark.asvs("7.3.1", "7.3.2")
@asynchronous
async def test_forward_auth_counts_as_activity_and_obeys_deadlines(tmp_path: Path) -> None:
    async with gate_in(tmp_path, idle_timeout_s=60, absolute_timeout_s=150, access_token_s=1000) as gate:
        bearer = gate.bearer
        versions = []
        for _ in range(3):
            for _ in range(3):
                assert (await gate.ask(bearer)).status_code == 200
            versions.append((await gate.services.sessions.load(gate.session.session_id)).version)
            gate.later(45_000)
        assert versions == [2, 3, 4], "recorded when a tenth of the timeout has passed, and not at every request"
        assert (await gate.ask(bearer)).status_code == 200
        gate.later(20_000)
        answer = await gate.ask(bearer)
        assert (problem(answer), answer.json().get("reason")) == ((401, "session-ended"), "absolute")
    async with gate_in(tmp_path / "idle", idle_timeout_s=60, access_token_s=1000) as gate:
        bearer = gate.bearer
        assert (await gate.ask(bearer)).status_code == 200
        gate.later(60_000)
        answer = await gate.ask(bearer)
        assert (problem(answer), answer.json().get("reason")) == ((401, "session-ended"), "idle")


@asynchronous
async def test_a_session_ending_while_its_activity_is_noted_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate_in(tmp_path) as gate:
        sessions = gate.services.sessions
        touch = sessions.touch

        async def revoked_meanwhile(session: Session) -> Session:
            touched = await touch(session)
            await sessions.end(session, "revoked", "ada")
            return touched

        monkeypatch.setattr(sessions, "touch", revoked_meanwhile)
        assert problem(await gate.ask(gate.bearer)) == (401, "session-ended")


@pytest.mark.asvs("7.4.2")
@asynchronous
async def test_forward_auth_refuses_a_disabled_account(tmp_path: Path) -> None:
    """Even before the end of its session is on disk."""
    async with gate_in(tmp_path) as gate:
        assert (await gate.ask(gate.bearer)).status_code == 200
        await gate.services.accounts.ask("ada", "admin:eve", Disable())
        assert problem(await gate.ask(gate.bearer)) == (401, "session-ended")


@pytest.mark.asvs("8.3.2")
@asynchronous
async def test_an_account_change_shows_in_the_next_forward_auth_answer(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        assert (await gate.ask(gate.bearer)).headers["remote-groups"] == ""
        await gate.services.accounts.ask("ada", "admin:eve", SetGroups(("staff",)))
        assert (await gate.ask(gate.bearer)).headers["remote-groups"] == "staff"


@pytest.mark.asvs("16.5.3")
@pytest.mark.parametrize("looks_up", ["cached", "load"])
@asynchronous
async def test_any_failure_is_a_forward_auth_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks_up: str
) -> None:
    """A cached answer needs one of the look-ups, and a new one the other."""
    async with gate_in(tmp_path) as gate:
        if looks_up == "cached":
            assert (await gate.ask(gate.bearer)).status_code == 200

        def fails_with(error: Exception) -> None:
            def fail(_session_id: str) -> None:
                raise error

            monkeypatch.setattr(gate.services.sessions, looks_up, fail)

        for error, status, name in (
            (SurfaceFailed("no disk"), 503, "unavailable"),
            (Overloaded(7), 503, "overloaded"),
            (ZeroDivisionError("a secret"), 500, "internal-error"),
        ):
            fails_with(error)
            answer = await gate.ask(gate.bearer)
            assert problem(answer) == (status, name)
            assert "secret" not in answer.text
            assert answer.headers.get("retry-after") == ("7" if name == "overloaded" else None)


@pytest.mark.asvs("4.1.4", "13.4.4")
@asynchronous
async def test_forward_auth_answers_only_get_and_head(tmp_path: Path) -> None:
    async with gate_in(tmp_path) as gate:
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
            answer = await gate.ask(gate.bearer, method=method)
            assert (answer.status_code, answer.headers.get("allow")) == (405, "GET, HEAD, OPTIONS")
            assert "remote-user" not in answer.headers


@asynchronous
async def test_forward_auth_answers_head_like_get(tmp_path: Path) -> None:
    """HAProxy uses HEAD."""
    async with gate_in(tmp_path) as gate:
        for credential in (gate.bearer, gate.cookie, gate.bearer):
            answer = await gate.ask(credential, method="HEAD")
            assert (answer.status_code, answer.headers["remote-user"], answer.content) == (200, "ada", b"")
        refused, told = await gate.ask(method="HEAD"), await gate.ask()
        assert (refused.status_code, refused.content) == (401, b"")
        assert refused.headers["content-length"] == told.headers["content-length"]


@asynchronous
async def test_the_forward_auth_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.server.experience.endpoints.forward_auth._LIMIT", 2)
    async with gate_in(tmp_path) as gate:
        sessions = [(await gate.services.sessions.begin("ada", Authenticate("ada", "p"))).instance for _ in range(4)]
        for _ in range(2):
            for session in sessions:
                gate.session = session
                for credential in (gate.bearer, gate.cookie):
                    answer = await gate.ask(credential)
                    assert answer.headers["x-session-id"] == session.session_id
        assert (len(gate.forward_auth._by_session), len(gate.forward_auth._by_cookie)) == (2, 2)
