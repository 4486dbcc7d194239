"""A browser's cookie jar, over a server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.client import PASSWORD
from tests.support.inside import HOST, client_of

NAME: Final = "__Host-interlock"


PAGE: Final = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}


ADA: Final = {"email": "ada@example.org", "password": PASSWORD}


BOB: Final = {"email": "bob@example.org", "password": PASSWORD}


class Jar(msgspec.Struct):
    """A browser's cookies."""

    services: Services
    http: httpx.AsyncClient
    cookies: dict[str, str] = msgspec.field(default_factory=dict)

    async def post(self, path: str, body: Any = None, *, bearer: str | None = None) -> httpx.Response:
        """Send a request. Return its answer, which has not arrived yet."""
        headers = {**PAGE, "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if bearer is not None:
            headers["authorization"] = f"Bearer {bearer}"
        self.http.cookies.clear()
        return await self.http.post(path, json=body, headers=headers)

    def take(self, answer: httpx.Response) -> dict[str, Any]:
        """Deliver the answer."""
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return dict(answer.json()) if answer.content else {}

    async def ask(self, path: str, body: Any = None, *, bearer: str | None = None) -> dict[str, Any]:
        return self.take((await self.post(path, body, bearer=bearer)).raise_for_status())

    async def session(self, session_id: str) -> Session:
        return await self.services.sessions.load(session_id)

    async def reason(self, session_id: str) -> str | None:
        return (await self.session(session_id)).reason

    def later(self, by_ms: int) -> None:
        clock: Any = self.services.clock
        clock._ahead_of_monotonic_ns += by_ms * 1_000_000


@asynccontextmanager
async def jar_in(folder: Path, **settings: Any) -> AsyncIterator[Jar]:
    settings = {"rate_limit_exempt": ("127.0.0.1",), **settings}
    wanted = Settings(data=str(folder), cheap_passwords_for_tests=True, **settings)
    async with open_services(wanted) as services, client_of(app_over(services)) as http:
        for account in (ADA, BOB):
            (await http.post("/api/auth/register", json=account)).raise_for_status()
        yield Jar(services, http)


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


async def two_tabs(jar: Jar) -> tuple[str, str]:
    """Make two concurrent first visits: one cookie, of the second session, and an access token of each."""
    first = await jar.ask("/api/session")
    held, jar.cookies = jar.cookies, {}
    second = await jar.ask("/api/session")
    jar.cookies = held | jar.cookies
    return first["access_token"], second["access_token"]
