"""Calls with several credentials: a bad one does not hide a good one, and never ends what the good one opens.

The exception is a bad one of another session: then the good one may be another user's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD
from tests.support.inside import HOST, client_of

NAME: Final = "__Host-interlock"
PAGE: Final = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}
ADA: Final = {"email": "ada@example.org", "password": PASSWORD}
ELSEWHERE: Final = {"of an ended session", "of no session"}
"""The bad credentials that name another session than the good ones."""


class House(msgspec.Struct):
    """A server, Ada's account and her session."""

    services: Services
    http: httpx.AsyncClient
    subject: str
    session: Session
    bad_bearers: dict[str, str]
    bad_refresh_tokens: dict[str, str]

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def bearer(self) -> str:
        return f"Bearer {self.services.tokens.access_token(self.session)}"

    @property
    def refresh_token(self) -> str:
        return self.services.tokens.refresh_token(self.session)

    @property
    def cookie(self) -> dict[str, str]:
        return {"cookie": f"{NAME}={self.refresh_token}"}

    async def post(self, path: str, headers: dict[str, str], body: Any = None) -> httpx.Response:
        self.http.cookies.clear()
        return await self.http.post(path, headers=headers, json=body)

    async def reload(self) -> Session:
        self.session = await self.services.sessions.load(self.session.session_id)
        return self.session

    async def hello(self, headers: dict[str, str], *offered: str) -> str:
        """Return the session that a socket opens, or the code that closes it."""
        protocols: Any = ["interlock.v1", *offered]
        page = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        address = self.url.replace("http", "ws") + "/api/connect"
        async with connect(address, subprotocols=protocols, additional_headers=page | headers) as socket:
            try:
                return str(json.loads(await socket.recv())["session_id"])
            except ConnectionClosed as closed:
                return str(closed.rcvd.code if closed.rcvd else None)

    async def begin(self, subject: str | None = None) -> Session:
        subject = subject or self.subject
        return (await self.services.sessions.begin(subject, Authenticate(subject, "password"))).instance


@asynccontextmanager
async def house_in(folder: Path) -> AsyncIterator[House]:
    settings = Settings(data=str(folder / "data"), cheap_passwords_for_tests=True, rate_limit_exempt=("127.0.0.1",))
    elsewhere = Settings(data=str(folder / "elsewhere"), cheap_passwords_for_tests=True)
    async with (
        open_services(elsewhere) as other,
        open_services(settings) as services,
        client_of(app_over(services)) as http,
    ):
        account = (await http.post("/api/auth/register", json=ADA)).raise_for_status().json()
        subject = account["subject"]
        sessions, tokens = services.sessions, services.tokens
        session = (await sessions.begin(subject, Authenticate(subject, "password"))).instance
        expired = tokens.access_token(session)
        clock: Any = services.clock
        clock._ahead_of_monotonic_ns += 301 * 1_000_000_000
        superseded, first = tokens.access_token(session), tokens.refresh_token(session)
        session = (await sessions.authenticate(session, Authenticate(subject, "password"))).instance
        used = tokens.refresh_token(session)
        for _ in range(2):
            session = (await sessions.refresh(session.session_id, session.epoch, session.rotation, subject)).instance
        # After the grace of the first.
        clock._ahead_of_monotonic_ns += 11 * 1_000_000_000
        gone = (await sessions.begin(subject, Authenticate(subject, "password"))).instance
        await sessions.end(gone, "logout", subject)
        absent = msgspec.structs.replace(session, session_id="0" * 36)
        foreign = (await other.sessions.begin(subject, Authenticate(subject, "password"))).instance
        bad_bearers = {
            "expired": expired,
            "superseded": superseded,
            "foreign": other.tokens.access_token(foreign),
            "malformed": "x",
            "of an ended session": tokens.access_token(gone),
            "of no session": tokens.access_token(absent),
        }
        bad = {name: f"Bearer {token}" for name, token in bad_bearers.items()} | {
            "basic": "Basic YTpi",
            "empty": "Bearer",
        }
        bad_refresh_tokens = {
            "used": used,
            "superseded": first,
            "foreign": other.tokens.refresh_token(foreign),
            "malformed": "x",
            "empty": "",
            "of an ended session": tokens.refresh_token(gone),
            "of no session": tokens.refresh_token(absent),
        }
        yield House(services, http, subject, session, bad, bad_refresh_tokens)


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def clears_cookie(answer: httpx.Response) -> bool:
    lines = [SimpleCookie(line) for line in answer.headers.get_list("set-cookie")]
    return any(NAME in line and line[NAME]["max-age"] == "0" for line in lines)


@pytest.mark.asvs("7.4.1")
@asynchronous
async def test_a_logout_ends_the_cookies_session_whatever_the_bearer_token(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        for name, bearer in house.bad_bearers.items():
            answer = await house.post("/api/auth/logout", PAGE | house.cookie | {"authorization": bearer})
            assert (answer.status_code, clears_cookie(answer)) == (204, True), name
            assert (await house.reload()).reason == "logout", name
            house.session = await house.begin()


@asynchronous
async def test_a_logout_with_bad_credentials_still_clears_the_cookie(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        dead = {name: token for name, token in house.bad_refresh_tokens.items() if name not in {"used", "superseded"}}
        for (name, bearer), (other, token) in itertools.product(house.bad_bearers.items(), dead.items()):
            headers = PAGE | {"authorization": bearer, "cookie": f"{NAME}={token}"}
            answer = await house.post("/api/auth/logout", headers)
            assert (answer.status_code, clears_cookie(answer)) == (401, True), (name, other)
            assert answer.headers["clear-site-data"] == '"cache", "storage"'
        assert problem(await house.post("/api/auth/logout", {})) == (401, "credential-missing")
        headers = PAGE | {"authorization": house.bad_bearers["expired"], "cookie": f"{NAME}=x"}
        assert problem(await house.post("/api/auth/logout", headers)) == (401, "token-expired")
        assert not (await house.reload()).ended


@asynchronous
async def test_a_program_logs_out_with_its_refresh_token(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        for bearer in (None, *house.bad_bearers.values()):
            headers = {"authorization": bearer} if bearer is not None else {}
            answer = await house.post("/api/auth/logout", headers, {"refresh_token": house.refresh_token})
            assert answer.status_code == 204
            assert "set-cookie" not in answer.headers
            assert (await house.reload()).reason == "logout"
            house.session = await house.begin()
        for token in house.bad_refresh_tokens.values():
            answer = await house.post("/api/auth/logout", {"authorization": house.bearer}, {"refresh_token": token})
            assert answer.status_code == 204
            assert (await house.reload()).reason == "logout"
            house.session = await house.begin()
        answer = await house.post("/api/auth/logout", {}, {"refresh_token": "x"})
        assert problem(answer) == (401, "credential-invalid")


@asynchronous
async def test_a_logout_with_credentials_of_two_sessions_ends_both(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        other = await house.begin()
        bearer = f"Bearer {house.services.tokens.access_token(other)}"
        answer = await house.post("/api/auth/logout", PAGE | house.cookie | {"authorization": bearer})
        assert answer.status_code == 204
        for session in (house.session, other):
            assert (await house.services.sessions.load(session.session_id)).reason == "logout"


@asynchronous
async def test_a_refresh_uses_the_valid_one_of_two_tokens(tmp_path: Path) -> None:
    """A used-up token ends its session, unless the good one is sent as well."""
    async with house_in(tmp_path) as house:
        for name, token in house.bad_refresh_tokens.items():
            answer = await house.post("/api/auth/refresh", PAGE | house.cookie, {"refresh_token": token})
            if name in ELSEWHERE:
                assert problem(answer)[0] == 401, name
                continue
            assert answer.status_code == 200, name
            assert answer.json()["session_id"] == house.session.session_id
            await house.reload()
        for name, token in house.bad_refresh_tokens.items():
            headers = {"cookie": f"{NAME}={token}"}
            answer = await house.post("/api/auth/refresh", headers, {"refresh_token": house.refresh_token})
            assert answer.status_code == 200, name
            await house.reload()
        answer = await house.post("/api/auth/refresh", {"cookie": f"{NAME}=x"}, {"refresh_token": "x"})
        assert problem(answer) == (401, "credential-invalid")
        assert problem(await house.post("/api/auth/refresh", PAGE, {})) == (401, "credential-missing")
        used = {"refresh_token": house.bad_refresh_tokens["used"]}
        answer = await house.post("/api/auth/refresh", {"cookie": f"{NAME}=x"}, used)
        assert (problem(answer), answer.json()["reason"]) == ((401, "session-ended"), "token_reuse")


@asynchronous
async def test_a_login_ignores_a_stale_bearer_token(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        for name, bearer in house.bad_bearers.items():
            answer = await house.post("/api/auth/login", {"authorization": bearer}, ADA)
            assert answer.status_code == 200, name
            assert answer.json()["session_id"] != house.session.session_id
            page = await house.post("/api/auth/login", PAGE | house.cookie | {"authorization": bearer}, ADA)
            assert (page.status_code, page.json()["session_id"]) == (200, house.session.session_id), name
            await house.reload()


@pytest.mark.asvs("3.5.1")
@asynchronous
async def test_forward_auth_lets_a_good_cookie_pass_beside_a_bad_bearer_token(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        anonymous = (await house.services.sessions.begin("anonymous")).instance
        bad = house.bad_bearers | {"anonymous": f"Bearer {house.services.tokens.access_token(anonymous)}"}
        for name, bearer in bad.items():
            for _ in range(2):
                headers = house.cookie | {"authorization": bearer, "sec-fetch-site": "same-origin"}
                answer = await house.http.get("/api/forward-auth", headers=headers)
                passes = name not in {*ELSEWHERE, "anonymous"}
                assert (answer.status_code == 200, "remote-user" in answer.headers) == (passes, passes), name
                foreign = headers | {"origin": "https://evil.example"}
                refused = await house.http.get("/api/forward-auth", headers=foreign)
                assert refused.status_code in {401, 403}, name
                alone = await house.http.get("/api/forward-auth", headers={"authorization": bearer})
                assert alone.status_code == (403 if name == "anonymous" else 401), name
                assert "remote-user" not in alone.headers
        expired = house.cookie | {"authorization": bad["expired"], "origin": "https://evil.example"}
        answer = await house.http.get("/api/forward-auth", headers=expired)
        assert problem(answer) == (401, "token-expired"), "refreshing is what helps"


@asynchronous
async def test_a_handshake_uses_the_valid_one_of_two_credentials(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:

        async def ticket() -> str:
            return await house.services.tickets.issue(
                house.session, house.services.clock.now_ms() + 60_000, house.services.keys.signing.kid
            )

        own = house.session.session_id
        for name, bearer in house.bad_bearers.items():
            told = {"of an ended session": "4403", "of no session": "1008"}.get(name, own)
            assert await house.hello({"Authorization": bearer}, f"ticket.{await ticket()}") == told, name
        # The cookie opens none, even though it is valid.
        assert await house.hello(house.cookie, "ticket.x") == "4401"
        assert await house.hello({"Authorization": house.bearer}, "ticket.x") == own
        for name, token in house.bad_refresh_tokens.items():
            cookie = {"cookie": f"{NAME}={token}"}
            assert await house.hello(cookie, f"ticket.{await ticket()}") == own, name
            assert await house.hello({**cookie, "Authorization": house.bearer}) == own, name
        assert (
            await house.hello({"Authorization": house.bad_bearers["expired"], "cookie": f"{NAME}=x"}, "ticket.x")
            == "4408"
        )
        assert await house.hello({"cookie": f"{NAME}=x"}, "ticket.x") == "4401"


@pytest.mark.asvs("7.2.1")
@asynchronous
async def test_a_bad_credential_does_not_fall_back_to_another_users(tmp_path: Path) -> None:
    """Ada's credential is invalid, beside Bob's valid cookie or ticket."""
    async with house_in(tmp_path) as house:
        await registered(house.services, "acc_bob")
        bob = await house.begin("acc_bob")
        tokens, tickets = house.services.tokens, house.services.tickets
        cookie = {"cookie": f"{NAME}={tokens.refresh_token(bob)}", "sec-fetch-site": "same-origin"}
        anonymous = (await house.services.sessions.begin("anonymous")).instance
        ours = {name: house.bad_bearers[name] for name in ("expired", "superseded", *sorted(ELSEWHERE))}
        for name, bearer in (ours | {"anonymous": f"Bearer {tokens.access_token(anonymous)}"}).items():
            answer = await house.http.get("/api/forward-auth", headers=cookie | {"authorization": bearer})
            assert answer.status_code == (403 if name == "anonymous" else 401), name
            assert "remote-user" not in answer.headers
        now_ms = house.services.clock.now_ms()
        kid = house.services.keys.signing.kid
        expired = await tickets.issue(house.session, now_ms + 60_000, kid)
        clock: Any = house.services.clock
        clock._ahead_of_monotonic_ns += 31 * 1_000_000_000
        assert await house.hello(cookie, f"ticket.{expired}") == "4401"
        good = await tickets.issue(bob, now_ms + 600_000, kid)
        for name, bearer in ours.items():
            code = await house.hello({"Authorization": bearer}, f"ticket.{good}")
            assert code == ("1008" if name == "of no session" else "4403"), name
            good = await tickets.issue(bob, now_ms + 600_000, kid)
        for name in ("used", "superseded", *sorted(ELSEWHERE)):
            body = {"refresh_token": house.bad_refresh_tokens[name]}
            for headers in (cookie, {"cookie": cookie["cookie"]}):
                answer = await house.post("/api/auth/refresh", headers, body)
                assert answer.status_code == 401, name
        assert (await house.reload()).reason == "token_reuse", "what the used token opened"
        after = await house.services.sessions.load(bob.session_id)
        assert not after.ended
        assert after.rotation == bob.rotation, "nothing of Bob's was exchanged"
        answer = await house.post("/api/auth/refresh", cookie)
        assert answer.json()["session_id"] == bob.session_id


@asynchronous
async def test_a_cookie_that_can_not_be_exchanged_ends_no_session(tmp_path: Path) -> None:
    async with house_in(tmp_path) as house:
        other = await house.begin()
        bearer = f"Bearer {house.services.tokens.access_token(other)}"
        used = {"cookie": f"{NAME}={house.bad_refresh_tokens['used']}"}
        for _ in range(2):
            answer = await house.http.get("/api/session", headers=PAGE | used | {"authorization": bearer})
            assert (answer.status_code, answer.json().get("session_id")) == (200, other.session_id)
        assert await house.hello({**used, "Authorization": bearer}) == other.session_id
        assert not (await house.reload()).ended
        answer = await house.http.get("/api/session", headers=PAGE | house.cookie | {"authorization": bearer})
        assert (problem(answer), answer.json()["reason"]) == ((401, "session-ended"), "replaced")
        (record,) = (await house.services.sessions.history(other.session_id, 0, 100))[-1:]
        assert (record.transition.event, record.transition.actor) == ("revoke", "server")
