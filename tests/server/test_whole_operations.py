"""Operations of an account are atomic: under overload at any write, and after a crash at any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.server.app import app_over
from interlock.server.services import Services
from interlock.server.surface.sqlite import file_identity
from interlock.server.surface.sqlite.writer import Writer
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD
from tests.support.inside import client_of
from tests.support.wire import services_in

ADA = {"email": "ada@example.org", "password": PASSWORD}
NEW = {"current_password": PASSWORD, "new_password": "another long password"}


class Place:
    """A server, a user logged in on three devices, and how many writes succeed before the next one fails."""

    def __init__(self, services: Services, http: httpx.AsyncClient) -> None:
        self.services = services
        self.http = http
        self.tokens: list[dict[str, Any]] = []
        self.subject = ""

    async def move_in(self) -> None:
        self.subject = (await self.http.post("/api/auth/register", json=ADA)).raise_for_status().json()["subject"]
        for _ in range(3):
            self.tokens.append((await self.http.post("/api/auth/login", json=ADA)).raise_for_status().json())

    def bearer(self, device: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[device]['access_token']}"}

    async def sees(self) -> tuple[list[int], int, int, int]:
        """Return whose tokens open their session, and the answers to the old password, the new one and a new account."""
        opens = [(await self.http.get("/api/session", headers=self.bearer(each))).status_code for each in range(3)]
        old = await self.http.post("/api/auth/login", json=ADA)
        new = await self.http.post("/api/auth/login", json={**ADA, "password": NEW["new_password"]})
        eve = await self.http.post("/api/auth/login", json={**ADA, "email": "eve@example.org"})
        return opens, old.status_code, new.status_code, eve.status_code


@pytest.fixture(autouse=True)
def _no_empty_batches() -> Iterator[None]:
    """Skip the empty batch that the server commits every second: it is no write of an operation."""
    with mock.patch.object(file_identity, "_LOOK_S", 3600):
        yield


@asynccontextmanager
async def place_in(folder: Path) -> AsyncIterator[Place]:
    async with services_in(folder) as services, client_of(app_over(services)) as http:
        place = Place(services, http)
        await place.move_in()
        yield place


async def register(place: Place) -> httpx.Response:
    return await place.http.post("/api/auth/register", json={**ADA, "email": "eve@example.org"})


async def log_in(place: Place) -> httpx.Response:
    return await place.http.post("/api/auth/login", json=ADA)


async def log_out(place: Place) -> httpx.Response:
    return await place.http.post("/api/auth/logout", headers=place.bearer(0))


async def end_others(place: Place) -> httpx.Response:
    return await place.http.delete("/api/sessions", headers=place.bearer(0))


async def change_password(place: Place) -> httpx.Response:
    answer = await place.http.post("/api/auth/password", json=NEW, headers=place.bearer(0))
    if answer.status_code == 200:
        place.tokens[0] = answer.json()
    return answer


OPERATIONS: dict[Callable[[Place], Awaitable[httpx.Response]], tuple[list[int], int, int, int]] = {
    register: ([200, 200, 200], 200, 401, 200),
    log_in: ([200, 200, 200], 200, 401, 401),
    log_out: ([401, 200, 200], 200, 401, 401),
    end_others: ([200, 401, 401], 200, 401, 401),
    change_password: ([200, 401, 401], 401, 200, 401),
}
"""The visible state after each operation."""

BEFORE = ([200, 200, 200], 200, 401, 401)


@pytest.mark.asvs("2.3.3")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("write", range(4))
@asynchronous
async def test_an_overload_at_any_write_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Callable[[Place], Awaitable[httpx.Response]], write: int
) -> None:
    async with place_in(tmp_path) as place:
        fail_at(monkeypatch, write, Overloaded)
        answer = await operation(place)
        monkeypatch.undo()
        assert answer.is_success or answer.status_code == 503
        assert await place.sees() == (OPERATIONS[operation] if answer.is_success else BEFORE)


@pytest.mark.checks("old_password_never_admits")
@pytest.mark.asvs("2.3.3")
@pytest.mark.parametrize("write", range(4))
@asynchronous
async def test_an_interrupted_password_change_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    async with place_in(tmp_path) as place:
        fail_at(monkeypatch, write, SurfaceFailed)
        answer = await change_password(place)
        monkeypatch.undo()
        tokens = place.tokens
        assert answer.status_code == (503 if write < 3 else 200)
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        again = Place(services, http)
        again.tokens = tokens
        opens, old, new, _ = await again.sees()
        living = await services.account_sessions.page(place.subject, None, 10)
        renewed = [session for session in living if session.session_id == tokens[0]["session_id"]]
    if write == 0:
        assert (opens, old, new) == ([200, 200, 200], 200, 401)
    else:
        # Clients that got no answer hold the tokens from before; the session is still theirs.
        assert (opens[1:], old, new) == ([401, 401], 401, 200)
        assert [session.epoch for session in renewed] == [2]


@asynchronous
async def test_a_start_ends_no_session_of_the_current_password(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        (await change_password(place)).raise_for_status()
        later = (await place.http.post("/api/auth/login", json={**ADA, "password": NEW["new_password"]})).json()
        kept = {place.tokens[0]["session_id"], later["session_id"]}
    async with services_in(tmp_path) as services:
        living = await services.account_sessions.page(place.subject, None, 10)
        assert {session.session_id for session in living} == kept


def fail_at(monkeypatch: pytest.MonkeyPatch, write: int, kind: type[Exception]) -> None:
    """Fail the write after ``write`` others. After an overload, later ones succeed again."""
    submit = Writer.submit_with_others
    count = 0

    def submitted(self: Writer, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == write + 1 or (count > write and kind is SurfaceFailed):
            raise kind("died" if kind is SurfaceFailed else 1)
        return submit(self, *arguments, **named)

    monkeypatch.setattr(Writer, "submit_with_others", submitted)
