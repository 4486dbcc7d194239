"""Concurrent calls of one browser, and late answers: one session stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.asynchronous import asynchronous
from tests.support.jar import ADA, BOB, NAME, PAGE, Jar, jar_in, problem, two_tabs


async def at_once(jar: Jar, *calls: tuple[str, Any, str | None]) -> dict[int, httpx.Response]:
    """Send all calls with the same cookies, deliver the answers in the given order, and return them."""
    answers: dict[int, httpx.Response] = {}

    async def call(number: int, path: str, body: Any, bearer: str | None) -> None:
        answers[number] = await Jar(jar.services, jar.http, dict(jar.cookies)).post(path, body, bearer=bearer)

    await asyncio.gather(*(call(number, *each) for number, each in enumerate(calls)))
    for answer in answers.values():
        jar.take(answer)
    return answers


@pytest.mark.asvs("7.4.1")
@pytest.mark.parametrize("other", ["login", "refresh", "begin", "begin with the bearer token", "another person"])
@asynchronous
async def test_a_login_concurrent_with_another_call_leaves_one_session(tmp_path: Path, other: str) -> None:
    async with jar_in(tmp_path) as jar:
        for _ in range(10):
            jar.cookies.clear()
            mine, theirs = await two_tabs(jar)
            second = {
                "login": ("/api/auth/login", ADA, theirs),
                "another person": ("/api/auth/login", BOB, theirs),
                "refresh": ("/api/auth/refresh", None, None),
                "begin": ("/api/session", None, None),
                "begin with the bearer token": ("/api/session", None, theirs),
            }[other]
            given = {each.removeprefix(f"{NAME}-") for each in jar.cookies if each != NAME}
            answers = await at_once(jar, ("/api/auth/login", ADA, mine), second)
            assert answers[0].status_code == 200
            assert answers[1].status_code in ({200} if second[1] else {200, 201, 401})
            given |= {answer.json()["session_id"] for answer in answers.values() if answer.is_success}
            alive = {each for each in given if not (await jar.session(each)).ended}
            if other == "another person":
                assert len(alive) <= 2, "each person's own, of which the next call ends one"
            else:
                assert alive == {answers[0].json()["session_id"]}
            final = await jar.ask("/api/auth/refresh")
            assert final["state"] == "authenticated"
            assert {each for each in given if not (await jar.session(each)).ended} == {final["session_id"]}


@asynchronous
async def test_a_read_concurrent_with_a_login_leaves_one_session(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        for _ in range(10):
            jar.cookies.clear()
            mine, _theirs = await two_tabs(jar)
            cookies = "; ".join(f"{name}={value}" for name, value in jar.cookies.items())
            headers = {**PAGE, "cookie": cookies, "authorization": f"Bearer {mine}"}
            looking = jar.http.get("/api/session", headers=headers)
            answers, _ = await asyncio.gather(at_once(jar, ("/api/auth/login", ADA, mine)), looking)
            assert not (await jar.session(answers[0].json()["session_id"])).ended
            assert (await jar.ask("/api/auth/refresh"))["state"] == "authenticated"


@asynchronous
async def test_a_session_is_not_created_during_a_login_shown_by_a_marker_only(tmp_path: Path) -> None:
    async with jar_in(tmp_path) as jar:
        mine, _ = await two_tabs(jar)
        before = dict(jar.cookies)
        login = await jar.post("/api/auth/login", ADA, bearer=mine)
        assert problem(await jar.post("/api/session")) == (401, "token-expired")
        jar.cookies = before
        jar.take(login)
        assert (await jar.ask("/api/session"))["session_id"] == login.json()["session_id"]


@asynchronous
async def test_an_answer_from_before_a_login_does_not_overwrite_its_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with jar_in(tmp_path) as jar:
        await jar.ask("/api/session")
        refresh = jar.services.sessions.refresh

        async def slowly(*arguments: Any, **keywords: Any) -> Any:
            outcome = await refresh(*arguments, **keywords)
            await jar.ask("/api/auth/login", ADA)
            return outcome

        monkeypatch.setattr(jar.services.sessions, "refresh", slowly)
        answer = await jar.post("/api/auth/refresh")
        assert problem(answer) == (401, "token-expired")
        jar.take(answer)
        monkeypatch.undo()
        assert (await jar.ask("/api/auth/refresh"))["state"] == "authenticated"


@asynchronous
async def test_a_session_whose_replacement_ends_first_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with jar_in(tmp_path) as jar:
        mine, theirs = await two_tabs(jar)
        end = jar.services.sessions.end
        replacement = (await jar.services.authenticator.by_access_token(theirs)).session

        async def overtaken(*arguments: Any, **keywords: Any) -> Any:
            await end(replacement, "revoked", "somebody")
            return await end(*arguments, **keywords)

        monkeypatch.setattr(jar.services.sessions, "end", overtaken)
        headers = {**PAGE, "cookie": f"{NAME}={jar.cookies[NAME]}", "authorization": f"Bearer {mine}"}
        answer = await jar.http.get("/api/session", headers=headers)
        assert answer.status_code == 200
        assert await jar.reason(replacement.session_id) == "revoked"
        assert not (await jar.session(answer.json()["session_id"])).ended
