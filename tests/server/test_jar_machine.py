"""One browser, many tabs, late and lost answers: Hypothesis searches for a second live session (N17)."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from http.cookies import SimpleCookie
from typing import Any, Final, TypeAlias, TypeVar

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from interlock.machine.errors import SessionNotFound
from interlock.server.app import app_over
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.client import PASSWORD
from tests.support.inside import HOST, client_of

T = TypeVar("T")

NAME: Final = "__Host-interlock"
PAGE: Final = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}
PEOPLE: Final = ("ada@example.org", "bob@example.org")
Call: TypeAlias = tuple[str, str | None]
"""A path, and the user who logs in there."""
CALLS: Final[list[Call]] = [
    *(("/api/auth/login", email) for email in PEOPLE),
    ("/api/session", None),
    ("/api/auth/refresh", None),
    ("/api/auth/logout", None),
]
TABS: Final = st.integers(0, 2)
WHEN: Final = st.sampled_from(["now", "now", "late", "lost"])


class Late(msgspec.Struct):
    """An answer on its way to a tab."""

    tab: int
    answer: httpx.Response


class Browser(RuleBasedStateMachine):
    """``jar`` is the browser's cookies, ``given`` every session that its cookie ever named, ``tabs`` their access tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.mkdtemp(prefix="interlock-jar-")
        self.jar: dict[str, str] = {}
        self.given: set[str] = set()
        self.tabs: list[str | None] = [None] * 3
        self.late: list[Late] = []
        self.services: Services
        self.http: httpx.AsyncClient

    def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.run_async(self.open())

    async def open(self) -> None:
        wanted = Settings(data=self.folder, cheap_passwords_for_tests=True, rate_limit_exempt=("127.0.0.1",))
        self.services = await self.stack.enter_async_context(open_services(wanted))
        self.http = await self.stack.enter_async_context(client_of(app_over(self.services)))
        for email in PEOPLE:
            (await self.http.post("/api/auth/register", json={"email": email, "password": PASSWORD})).raise_for_status()

    def ask(self, tab: int, method: str, path: str, body: Any = None, *, bearer: bool) -> httpx.Response:
        return self.run_async(self.send(tab, method, path, body, bearer=bearer))

    async def send(self, tab: int, method: str, path: str, body: Any = None, *, bearer: bool) -> httpx.Response:
        headers = dict(PAGE)
        if self.jar:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        if bearer and self.tabs[tab] is not None:
            headers["authorization"] = f"Bearer {self.tabs[tab]}"
        self.http.cookies.clear()
        return await self.http.request(method, path, json=body, headers=headers)

    def take(self, tab: int, answer: httpx.Response) -> None:
        """Deliver the answer."""
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.jar.pop(name, None)
                else:
                    self.jar[name] = morsel.value
        if NAME in self.jar:
            self.given.add(self.jar[NAME].partition(".")[0])
        if answer.is_success and answer.content:
            self.tabs[tab] = answer.json().get("access_token", self.tabs[tab])

    def arrive(self, tab: int, answer: httpx.Response, when: str) -> bool:
        """Deliver the answer, if it is still on its way. Return whether it was."""
        if when == "late":
            self.late.append(Late(tab, answer))
        elif when == "now":
            self.take(tab, answer)
        return when == "now"

    def alive(self) -> set[str]:
        """Return the live sessions among those that the jar was given."""
        return {session_id for session_id in self.given if self.run_async(self.lives(session_id))}

    async def lives(self, session_id: str) -> bool:
        try:
            session = await self.services.sessions.load(session_id)
        except SessionNotFound:
            return False
        return not session.ended and self.services.clock.now_ms() < session.deadline_ms

    def check_one(self, answer: httpx.Response) -> None:
        """Check that the jar holds the answer's session, which lives, and that every other one has ended."""
        assert self.jar[NAME].startswith(answer.json()["session_id"] + ".")
        assert self.alive() == {answer.json()["session_id"]}

    @rule(tab=TABS, when=WHEN, bearer=st.booleans())
    def begin(self, tab: int, when: str, *, bearer: bool) -> None:
        before = self.alive()
        answer = self.ask(tab, "POST", "/api/session", bearer=bearer)
        if answer.status_code == 401:
            assert answer.json()["type"] == "urn:interlock:problem:token-expired", "a login is under way"
            assert self.alive() == before
            return
        assert answer.status_code in {200, 201}
        if self.arrive(tab, answer, when):
            self.check_one(answer)

    @rule(tab=TABS, when=WHEN, bearer=st.booleans(), email=st.sampled_from(PEOPLE))
    def log_in(self, tab: int, when: str, email: str, *, bearer: bool) -> None:
        before = self.alive()
        credentials = {"email": email, "password": PASSWORD}
        answer = self.ask(tab, "POST", "/api/auth/login", credentials, bearer=bearer)
        if answer.status_code == 409:
            assert bearer, "somebody else is logged in on this very session"
            assert self.alive() == before
            return
        assert answer.status_code == 200
        if self.arrive(tab, answer, when):
            self.check_one(answer)

    @rule(tab=TABS, when=WHEN, bearer=st.booleans())
    def refresh(self, tab: int, when: str, *, bearer: bool) -> None:
        answer = self.ask(tab, "POST", "/api/auth/refresh", bearer=bearer)
        if self.arrive(tab, answer, when) and answer.status_code == 200:
            self.check_one(answer)

    @rule(tab=TABS, when=WHEN, bearer=st.booleans())
    def log_out(self, tab: int, when: str, *, bearer: bool) -> None:
        answer = self.ask(tab, "POST", "/api/auth/logout", bearer=bearer)
        assert answer.status_code in {204, 401}
        if self.arrive(tab, answer, when):
            assert NAME not in self.jar
            assert self.alive() == set()

    @rule(calls=st.lists(st.tuples(TABS, st.sampled_from(CALLS), st.booleans()), min_size=2, max_size=3))
    def at_once(self, calls: list[tuple[int, Call, bool]]) -> None:
        """Send all with the same cookies. Each answer arrives at its turn."""
        arrived: list[tuple[int, httpx.Response]] = []

        async def call(tab: int, path: str, email: str | None, *, bearer: bool) -> None:
            body = None if email is None else {"email": email, "password": PASSWORD}
            arrived.append((tab, await self.send(tab, "POST", path, body, bearer=bearer)))

        async def all_calls() -> None:
            await asyncio.gather(*(call(tab, *wanted, bearer=bearer) for tab, wanted, bearer in calls))

        self.run_async(all_calls())
        for tab, answer in arrived:
            assert answer.status_code in {200, 201, 204, 401, 409}
            self.take(tab, answer)
            if answer.is_success and answer.content:
                self.given.add(answer.json()["session_id"])
        handed_out = any(answer.is_success and answer.content for _, answer in arrived)
        if handed_out and not any(path.endswith("logout") for _, (path, _), _ in calls):
            assert self.jar[NAME].partition(".")[0] in self.alive(), "the calls have ended each other's sessions"

    @rule(tab=TABS)
    def look(self, tab: int) -> None:
        answer = self.ask(tab, "GET", "/api/session", bearer=True)
        main = self.jar.get(NAME, "").partition(".")[0]
        if answer.status_code == 200 and main in self.alive():
            assert answer.json()["session_id"] == main or self.cookie_is_old(), (
                "a tab of another session was told nothing"
            )

    def cookie_is_old(self) -> bool:
        """Return whether the jar's cookie predates a login, so that it does not show the jar's session."""
        session = self.run_async(self.services.sessions.load(self.jar[NAME].partition(".")[0]))
        return self.services.tokens.check_refresh_token(self.jar[NAME]).epoch != session.epoch

    @precondition(lambda self: self.late)
    @rule(number=st.integers(0, 10))
    def an_answer_arrives(self, number: int) -> None:
        late = self.late.pop(number % len(self.late))
        self.take(late.tab, late.answer)

    @rule()
    def time_passes(self) -> None:
        """Let more than the grace pass."""
        clock: Any = self.services.clock
        clock._ahead_of_monotonic_ns += 11_000 * 1_000_000

    def teardown(self) -> None:
        """Log out by the cookies alone: it must leave nothing alive, whatever happened."""
        for late in self.late:
            self.take(late.tab, late.answer)
        self.late.clear()
        if hasattr(self, "http"):
            self.ask(0, "POST", "/api/auth/logout", bearer=False)
            left = self.alive()
            self.run_async(self.stack.aclose())
            assert left == set()
        self.runner.close()
        shutil.rmtree(self.folder)


TestBrowser = pytest.mark.slow(Browser.TestCase)
TestBrowser.settings = settings(
    # Each example opens a server, so shrinking a failing one would take minutes.
    max_examples=min(settings().max_examples, 25),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
