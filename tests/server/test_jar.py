"""One browser, one session: the effect of each call on what a cookie jar presents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from interlock.machine.errors import Overloaded
from interlock.machine.session.commands import Revoke
from interlock.machine.session.session import Session
from interlock.server.experience.cookies import _markers
from tests.support.asynchronous import asynchronous
from tests.support.jar import ADA, BOB, NAME, PAGE, Jar, jar_in, problem, two_tabs


@pytest.mark.parametrize("logged_in", [False, True])
@asynchronous
async def test_creating_a_session_with_a_valid_cookie_refreshes_its_session(tmp_path: Path, *, logged_in: bool) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        if logged_in:
            await jar.ask("/api/auth/login", ADA)
        before, cookie = await jar.session(first["session_id"]), dict(jar.cookies)
        answer = await jar.post("/api/session")
        assert (answer.status_code, answer.json()["session_id"]) == (200, first["session_id"])
        assert answer.json()["state"] == ("authenticated" if logged_in else "created")
        assert "receipt" in answer.json()
        jar.take(answer)
        after = await jar.session(first["session_id"])
        assert (after.version, after.rotation) == (before.version + 1, before.rotation + 1)
        # Another tab, which has not seen it yet, gets its own token.
        mine, jar.cookies = jar.cookies, cookie
        again = await jar.ask("/api/session")
        assert jar.cookies[NAME] != mine[NAME]
        assert again["session_id"] == first["session_id"]
        assert (await jar.session(first["session_id"])).rotation == after.rotation + 1


@asynchronous
async def test_creating_a_session_with_a_used_token_is_reuse_and_starts_anew(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/auth/login", ADA)
        old = dict(jar.cookies)
        for _ in range(2):
            await jar.ask("/api/auth/refresh")
            jar.later(11_000)
        jar.cookies = old
        answer = await jar.post("/api/session")
        assert (answer.status_code, answer.json()["state"]) == (201, "created")
        assert await jar.reason(first["session_id"]) == "token_reuse"


@asynchronous
async def test_creating_a_session_with_an_invalid_cookie_starts_a_new_one(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        ended = await jar.ask("/api/session")
        await jar.services.sessions.end(await jar.session(ended["session_id"]), "revoked", "admin:bob")
        for cookies in (jar.cookies, {NAME: "x"}, {NAME: ""}, {NAME: f"{'0' * 36}.0.0.{'A' * 43}"}):
            jar.cookies = dict(cookies)
            answer = await jar.post("/api/session")
            assert answer.status_code == 201
            jar.take(answer)
            assert list(jar.cookies) == [NAME, f"{NAME}-{answer.json()['session_id']}"], "and nothing of the other"


@pytest.mark.asvs("7.2.4")
@pytest.mark.parametrize("arrives", [True, False])
@asynchronous
async def test_creating_a_session_during_another_tabs_login_is_refused(tmp_path: Path, *, arrives: bool) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        login = await jar.post("/api/auth/login", ADA)
        after = await jar.session(first["session_id"])
        assert problem(await jar.post("/api/session")) == (401, "token-expired")
        assert await jar.session(first["session_id"]) == after, "the login is not undone"
        if arrives:
            jar.take(login)
            assert (await jar.ask("/api/session"))["session_id"] == first["session_id"]
            return
        # After the grace the session ends, because nobody can reach it.
        jar.later(11_000)
        answer = await jar.post("/api/session")
        assert (answer.status_code, answer.json()["state"]) == (201, "created")
        assert await jar.reason(first["session_id"]) == "replaced"


@asynchronous
async def test_a_login_with_a_lost_answer_is_repeated_on_the_same_session(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        await jar.post("/api/auth/login", ADA)
        again = await jar.ask("/api/auth/login", ADA)
        assert again["session_id"] == first["session_id"]
        await jar.post("/api/auth/login", ADA)
        other = await jar.ask("/api/auth/login", BOB)
        assert other["session_id"] != first["session_id"]
        assert await jar.reason(first["session_id"]) == "replaced"


@asynchronous
async def test_a_logout_ends_the_session_though_two_logins_arrived_in_reverse(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        late = await jar.post("/api/auth/login", ADA)
        await jar.ask("/api/auth/login", ADA)
        await jar.ask("/api/session")
        jar.take(late)
        await jar.ask("/api/auth/logout")
        assert await jar.reason(first["session_id"]) == "logout"


@pytest.mark.asvs("7.4.1")
@pytest.mark.parametrize("path", ["/api/session", "/api/auth/login"])
@pytest.mark.parametrize("following", ["/api/session", "/api/auth/refresh", "/api/auth/login", "/api/auth/logout"])
@asynchronous
async def test_after_two_concurrent_first_calls_the_next_leaves_one_session(
    tmp_path: Path, path: str, following: str
) -> None:
    async with jar_in(tmp_path) as jar:
        body = ADA if path.endswith("login") else None
        answers = await asyncio.gather(jar.post(path, body), jar.post(path, body))
        lost, kept = (jar.take(answer) for answer in answers)
        await jar.ask(following, ADA if following.endswith("login") else None)
        assert await jar.reason(lost["session_id"]) == ("logout" if following.endswith("logout") else "replaced")
        assert (await jar.session(kept["session_id"])).ended == following.endswith("logout")
        assert (NAME in jar.cookies) != following.endswith("logout")
        assert f"{NAME}-{lost['session_id']}" not in jar.cookies


@asynchronous
async def test_a_bearer_token_without_marker_shows_the_jars_other_session(tmp_path: Path) -> None:
    for following in ("/api/session", "/api/auth/refresh", "/api/auth/logout"):
        async with jar_in(tmp_path / following.rpartition("/")[2]) as jar:
            lost = await jar.ask("/api/session")
            jar.cookies.clear()
            kept = await jar.ask("/api/session")
            jar.cookies = {NAME: jar.cookies[NAME]}
            await jar.ask(following, bearer=lost["access_token"])
            assert await jar.reason(lost["session_id"]) == ("logout" if following.endswith("logout") else "replaced")
            assert (await jar.session(kept["session_id"])).ended == following.endswith("logout")


@asynchronous
async def test_a_login_keeps_the_bearers_session_and_ends_the_cookies(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        mine = await jar.ask("/api/session")
        jar.cookies.clear()
        other = await jar.ask("/api/auth/login", ADA)
        login = await jar.ask("/api/auth/login", ADA, bearer=mine["access_token"])
        assert login["session_id"] == mine["session_id"]
        assert await jar.reason(other["session_id"]) == "replaced"


@asynchronous
async def test_of_two_users_logging_in_at_once_in_one_browser_one_stays(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        await jar.ask("/api/session")
        answers = await asyncio.gather(jar.post("/api/auth/login", ADA), jar.post("/api/auth/login", BOB))
        assert [answer.status_code for answer in answers] == [200, 200]
        sessions = [jar.take(answer)["session_id"] for answer in answers]
        assert len(set(sessions)) == 2
        # Whichever answer was last, one session lives, or the cookie's is dead: the next login repairs it.
        final = await jar.ask("/api/auth/login", ADA)
        alive = [each for each in {*sessions, final["session_id"]} if not (await jar.session(each)).ended]
        assert alive == [final["session_id"]]


@asynchronous
async def test_a_tab_of_a_replaced_session_is_told_so(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        lost = await jar.ask("/api/auth/login", ADA)
        jar.cookies.clear()
        await jar.ask("/api/auth/login", ADA)
        session = await jar.session(lost["session_id"])
        ticket = await jar.services.tickets.issue(
            session, jar.services.clock.now_ms() + 60_000, jar.services.keys.signing.kid
        )
        address = str(jar.http.base_url).replace("http", "ws").rstrip("/") + "/api/connect"
        protocols: Any = ["interlock.v1", f"ticket.{ticket}"]
        headers = {"Origin": str(jar.http.base_url).rstrip("/"), "Cookie": f"{NAME}={jar.cookies[NAME]}"}
        async with connect(address, subprotocols=protocols, additional_headers=headers) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "session ended: replaced")  # type: ignore[union-attr]  # it was received
        answer = await jar.http.get("/api/session", headers={**PAGE, "authorization": f"Bearer {lost['access_token']}"})
        assert (problem(answer), answer.json()["reason"]) == ((401, "session-ended"), "replaced")


@asynchronous
async def test_a_made_up_or_foreign_marker_ends_nothing(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        session, another = [(await jar.services.sessions.begin("anonymous")).instance for _ in range(2)]
        theirs, own = session.session_id, jar.services.tokens.marker(session)
        for name, value in (
            (f"{NAME}-{theirs}", f"0.{'A' * 43}"),
            (f"{NAME}-{theirs}", jar.services.tokens.marker(another)),
            (f"{NAME}-{theirs}", f"1{own[1:]}"),
            (f"{NAME}-{theirs}", ""),
            (f"x{NAME}-{theirs}", own),
            (f"\xa0{NAME}-{theirs}", own),
        ):
            headers = [(k.encode(), v.encode()) for k, v in PAGE.items()] + [
                (b"cookie", f"{name}={value}".encode("latin-1"))
            ]
            for path in ("/api/session", "/api/auth/logout"):
                await jar.http.post(path, headers=headers)
            assert not (await jar.session(theirs)).ended, name
        jar.cookies = {f"{NAME}-{theirs}": own}
        assert problem(await jar.post("/api/auth/refresh")) == (401, "credential-missing"), "it opens nothing"
        assert not (await jar.session(theirs)).ended


@pytest.mark.asvs("7.2.4")
@asynchronous
async def test_the_planter_of_a_session_can_not_end_the_login_on_it(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        planted = Jar(jar.services, jar.http, dict(jar.cookies))
        await jar.ask("/api/auth/login", ADA)
        await jar.ask("/api/auth/refresh")
        for path, body in (("/api/auth/logout", None), ("/api/auth/refresh", None), ("/api/auth/login", BOB)):
            await planted.post(path, body)
        jar.later(11_000)
        await planted.post("/api/session")
        assert not (await jar.session(first["session_id"])).ended
        assert (await jar.ask("/api/auth/refresh"))["session_id"] == first["session_id"]


@pytest.mark.asvs("7.2.4")
@pytest.mark.parametrize(("path", "by"), [("session", "token"), ("forward-auth", "token"), ("forward-auth", "cookie")])
@asynchronous
async def test_the_planter_can_not_end_a_login_after_a_mere_read(tmp_path: Path, path: str, by: str) -> None:
    """A read after the login leaves no record, but shows that the user has the login's tokens."""
    async with jar_in(tmp_path) as jar:
        first = await jar.ask("/api/session")
        planted = Jar(jar.services, jar.http, dict(jar.cookies))
        tokens = await jar.ask("/api/auth/login", ADA)
        before = (await jar.session(first["session_id"])).version
        shown = {"authorization": f"Bearer {tokens['access_token']}", "cookie": f"{NAME}={jar.cookies[NAME]}"}
        header = "authorization" if by == "token" else "cookie"
        headers = {"sec-fetch-site": "same-origin", header: shown[header]}
        (await jar.http.get(f"/api/{path}", headers=headers)).raise_for_status()
        assert (await jar.session(first["session_id"])).version == before
        for call, body in (("/api/auth/logout", None), ("/api/auth/login", BOB)):
            await planted.post(call, body)
        jar.later(11_000)
        await planted.post("/api/session")
        assert not (await jar.session(first["session_id"])).ended


@asynchronous
async def test_an_end_refused_by_an_overloaded_log_is_made_up_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with jar_in(tmp_path) as jar:
        lost = await jar.ask("/api/session")
        jar.cookies = {NAME: "x"}

        async def full(*_arguments: Any, **_named: Any) -> None:
            raise Overloaded

        with monkeypatch.context() as patch:
            patch.setattr(jar.services.sessions, "end", full)
            kept = await jar.ask("/api/session", bearer=lost["access_token"])
        assert not (await jar.session(lost["session_id"])).ended
        await jar.ask("/api/auth/refresh")
        assert await jar.reason(lost["session_id"]) == "replaced"
        assert not (await jar.session(kept["session_id"])).ended


@asynchronous
async def test_a_replaced_session_is_ended_by_the_server(tmp_path: Path) -> None:
    """Not by the new user, or the previous one would learn their identity."""
    async with jar_in(tmp_path) as jar:
        mine, _ = await two_tabs(jar)
        lost = await jar.ask("/api/auth/login", BOB)
        await jar.ask("/api/auth/login", ADA, bearer=mine)
        (record,) = (await jar.services.sessions.history(lost["session_id"], 0, 100))[-1:]
        assert (record.transition.data, record.transition.actor) == (Revoke("replaced"), "server")


@pytest.mark.parametrize("refused", [1, 2])
@asynchronous
async def test_a_logout_under_overload_ends_what_it_can_and_is_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    async with jar_in(tmp_path) as jar:
        await two_tabs(jar)
        given = [each.removeprefix(f"{NAME}-") for each in jar.cookies if each != NAME]
        end, ends = jar.services.sessions.end, []

        async def full(session: Session, *arguments: Any) -> Any:
            ends.append(session.session_id)
            if len(ends) <= refused:
                raise Overloaded
            return await end(session, *arguments)

        monkeypatch.setattr(jar.services.sessions, "end", full)
        answer = await jar.post("/api/auth/logout")
        assert (problem(answer), set(ends)) == ((503, "overloaded"), set(given))
        jar.take(answer)
        assert NAME in jar.cookies, "so that it can be repeated"
        monkeypatch.undo()
        await jar.ask("/api/auth/logout")
        assert [await jar.reason(each) for each in given] == ["logout", "logout"]
        assert jar.cookies == {}


@asynchronous
async def test_a_programs_sessions_do_not_replace_each_other(tmp_path: Path) -> None:
    """Several sessions of one program are its own choice, whatever cookies it sends."""
    async with jar_in(tmp_path) as jar:
        begun = [(await jar.http.post("/api/session")).json() for _ in range(2)]
        headers = {
            "cookie": f"{NAME}={begun[0]['refresh_token']}",
            "authorization": f"Bearer {begun[1]['access_token']}",
        }
        answer = await jar.http.post("/api/session", headers=headers)
        assert answer.status_code == 201
        assert "set-cookie" not in answer.headers
        assert (await jar.http.get("/api/session", headers=headers)).status_code == 200
        for each in begun:
            assert not (await jar.session(each["session_id"])).ended


@asynchronous
async def test_creating_a_session_that_resumes_counts_as_a_refresh(tmp_path: Path) -> None:
    async with jar_in(tmp_path, rate_limit_exempt=(), limit_session_create="1/1m") as jar:
        await jar.ask("/api/session")
        for _ in range(3):
            await jar.ask("/api/session")
        jar.cookies = {NAME: "x"}
        assert problem(await jar.post("/api/session")) == (429, "rate-limited")


@asynchronous
async def test_a_logout_ends_every_tabs_session_despite_made_up_markers(
    tmp_path: Path,
) -> None:
    async with jar_in(tmp_path) as jar:
        begun, held = [], {f"{NAME}-{number:036d}": f"0.{'A' * 43}" for number in range(40)}
        for _ in range(40):
            jar.cookies = {}
            begun.append((await jar.ask("/api/session"))["session_id"])
            held |= jar.cookies
        jar.cookies = held
        await jar.ask("/api/auth/logout")
        assert {await jar.reason(each) for each in begun} == {"logout"}


@asynchronous
async def test_of_two_markers_of_a_session_the_later_one_counts(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        session_id = (await jar.ask("/api/session"))["session_id"]
        early = jar.cookies[f"{NAME}-{session_id}"]
        await jar.ask("/api/auth/login", ADA)
        late = jar.cookies[f"{NAME}-{session_id}"]
        for pair in ((early, late), (late, early)):
            held = "; ".join(f"{NAME}-{session_id}={each}" for each in pair).encode()
            assert _markers(jar.services, {"headers": [(b"cookie", held)]}) == {session_id: 1}


@asynchronous
async def test_many_dead_markers_are_removed_over_several_responses(tmp_path: Path) -> None:
    """By default a proxy takes 4 KiB of headers, and answers 502 beyond that."""
    async with jar_in(tmp_path) as jar:
        held: dict[str, str] = {}
        for _ in range(40):
            jar.cookies = {}
            await jar.ask("/api/session")
            held |= jar.cookies
        jar.cookies = held
        for _ in range(4):
            answer = await jar.post("/api/session")
            assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) < 4096
            jar.take(answer)
        assert len(jar.cookies) == 2, "the refresh token, and the marker of its session"


@asynchronous
async def test_the_marker_of_a_session_that_may_not_be_ended_stays(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        session_id = (await jar.ask("/api/session"))["session_id"]
        marker = f"{NAME}-{session_id}"
        before_login = Jar(jar.services, jar.http, {marker: jar.cookies[marker]})
        await jar.ask("/api/auth/login", ADA)
        await jar.ask("/api/auth/refresh")
        jar.later(11_000)
        assert (await before_login.ask("/api/session"))["session_id"] != session_id
        assert not (await jar.session(session_id)).ended
        assert marker in before_login.cookies
