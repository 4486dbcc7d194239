"""Ending other sessions needs a recent login; ending the own never does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.hostile import AUDIENCE, Hostile
from tests.support.log import verify
from tests.support.server import ServerProcess, running_server


@pytest.mark.asvs("7.5.2")
@asynchronous
async def test_an_old_login_can_end_only_its_own_session(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", recent_login_s=0.001) as server:
        async with await logged_in(server.url) as client:
            other = client.sibling()
            await other.begin()
            await other.log_in(client.email)
            for path in (f"/api/sessions/{other.session_id}", "/api/sessions"):
                refused = await client.request("DELETE", path)
                assert refused.status_code == 401
                assert refused.json()["type"] == "urn:interlock:problem:login-too-old"
                challenge = refused.headers["www-authenticate"]
                assert 'error="insufficient_user_authentication", max_age=0' in challenge
            assert len((await other.request("GET", "/api/sessions")).json()) == 2, "nothing has ended"
            assert (await client.request("DELETE", f"/api/sessions/{client.session_id}")).status_code == 204
            assert len((await other.request("GET", "/api/sessions")).json()) == 1


@pytest.mark.asvs("7.5.2", "10.4.9")
@asynchronous
async def test_a_recent_login_can_end_other_sessions(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", recent_login_s=600) as server:
        async with await logged_in(server.url) as client:
            other = client.sibling()
            await other.begin()
            await other.log_in(client.email)
            assert (await client.request("DELETE", f"/api/sessions/{other.session_id}")).status_code == 204
            assert (await other.request("GET", "/api/session")).status_code == 401


RECENT: Final[dict[str, Callable[[int], int | None]]] = {
    "just now": lambda now_s: now_s,
    "a while ago": lambda now_s: now_s - 500,
    "by a clock that is ahead": lambda now_s: now_s + 50,
}
OLD: Final[dict[str, Callable[[int], int | None]]] = {
    "too long ago": lambda now_s: now_s - 700,
    "a week ago": lambda now_s: now_s - 7 * 86_400,
    "nobody knows when": lambda _: None,
    "at the epoch": lambda _: 0,
    "before all time": lambda _: -(10**30),
}


@pytest.fixture(scope="module")
def gate(provider: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that requires a login in the last ten minutes, and trusts ``provider``."""
    settings = {"oidc_issuer": provider.issuer, "oidc_audiences": AUDIENCE, "recent_login_s": 600}
    with running_server(tmp_path_factory.mktemp("recent") / "data", **settings) as process:
        yield process
        verify(process.data)


class Person:
    """A user whom the provider knows."""

    def __init__(self, gate: ServerProcess, provider: Hostile) -> None:
        self.gate = gate
        self.provider = provider
        self.name = uuid4().hex

    def arrive(self, when: Callable[[int], int | None], **headers: str) -> dict[str, str]:
        """Log in with an ID token whose login at the provider was at ``when``. Return the session's bearer header."""
        token = self.provider.token(sub=self.name, auth_time=when(int(time.time())))
        answer = httpx.post(f"{self.gate.url}/api/auth/exchange", json={"id_token": token}, headers=headers)
        return {"authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}

    def end_others(self, bearer: dict[str, str]) -> tuple[int, Any]:
        """Try to end all other sessions. Return the status, and how many ended or the problem's type."""
        answer = httpx.delete(f"{self.gate.url}/api/sessions", headers=bearer)
        body = answer.json()
        return answer.status_code, body.get("ended", body.get("type"))


TOO_OLD: Final = (401, "urn:interlock:problem:login-too-old")


@pytest.mark.asvs("7.5.2")
@pytest.mark.parametrize("when", RECENT.values(), ids=RECENT)
def test_a_recent_login_at_the_provider_can_end_other_sessions(
    gate: ServerProcess, provider: Hostile, when: Callable[[int], int | None]
) -> None:
    person = Person(gate, provider)
    person.arrive(lambda _: None)
    assert person.end_others(person.arrive(when)) == (200, 1)


@pytest.mark.asvs("7.5.2")
@pytest.mark.parametrize("when", OLD.values(), ids=OLD)
def test_an_exchange_alone_is_not_a_recent_login(
    gate: ServerProcess, provider: Hostile, when: Callable[[int], int | None]
) -> None:
    """A stolen access token's holder may get an ID token of the victim's old login, without a password."""
    person = Person(gate, provider)
    other = person.arrive(when)
    bearer = person.arrive(when)
    assert person.end_others(bearer) == TOO_OLD
    bearer = person.arrive(when, **bearer)
    assert person.end_others(bearer) == TOO_OLD, "also when it comes on the same session once more"
    anonymous = httpx.post(f"{gate.url}/api/session").raise_for_status().json()
    bearer = person.arrive(when, authorization=f"Bearer {anonymous['access_token']}")
    assert person.end_others(bearer) == TOO_OLD, "also on a session that was anonymous until now"
    assert httpx.get(f"{gate.url}/api/session", headers=other).status_code == 200
    bearer = person.arrive(RECENT["just now"], **bearer)
    assert person.end_others(bearer) == (200, 2)


def test_the_last_login_on_the_session_counts(gate: ServerProcess, provider: Hostile) -> None:
    person = Person(gate, provider)
    bearer = person.arrive(RECENT["just now"])
    assert person.end_others(bearer) == (200, 0)
    assert person.end_others(person.arrive(OLD["a week ago"], **bearer)) == TOO_OLD


def test_the_log_records_the_age_of_the_authentication(gate: ServerProcess, provider: Hostile) -> None:
    person = Person(gate, provider)
    for when, least_ms in ((RECENT["by a clock that is ahead"], None), (OLD["a week ago"], 7 * 86_400_000)):
        bearer = person.arrive(when)
        history = httpx.get(f"{gate.url}/api/session/transitions", headers=bearer).json()
        age_ms = history[1]["data"].get("auth_age_ms")
        assert age_ms is None if least_ms is None else least_ms <= age_ms < least_ms + 60_000
    history = httpx.get(f"{gate.url}/api/session/transitions", headers=person.arrive(OLD["nobody knows when"])).json()
    assert history[1]["data"]["auth_age_ms"] is None


@pytest.mark.asvs("7.5.2")
def test_an_old_login_stays_old_after_a_restart(tmp_path: Path, provider: Hostile) -> None:
    settings = {"oidc_issuer": provider.issuer, "oidc_audiences": AUDIENCE, "recent_login_s": 600}
    with running_server(tmp_path / "data", **settings) as gate:
        person = Person(gate, provider)
        recent, *old = [person.arrive(when) for when in (RECENT["just now"], *OLD.values())]
        gate.stop()
        gate.start()
        assert [person.end_others(bearer) for bearer in old] == [TOO_OLD] * len(OLD)
        assert person.end_others(recent) == (200, len(OLD))
    verify(tmp_path / "data")
