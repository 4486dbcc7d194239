"""Forward-auth over real services in this process, and a user who may pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.experience.endpoints.forward_auth import ForwardAuth
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.inside import client_of

PATH: Final = "/api/forward-auth"
COOKIE: Final = "__Host-interlock"
ALLOWED: Final = "https://other.example"


class Gate(msgspec.Struct):
    """The endpoint over real services, and Ada's session."""

    services: Services
    http: httpx.AsyncClient
    session: Session
    forward_auth: ForwardAuth

    async def ask(
        self, headers: dict[str, str] | None = None, *, method: str = "GET", path: str = PATH
    ) -> httpx.Response:
        return await self.http.request(method, path, headers=headers)

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.services.tokens.access_token(self.session)}"}

    @property
    def cookie(self) -> dict[str, str]:
        token = self.services.tokens.refresh_token(self.session)
        return {"cookie": f"theme=dark; {COOKIE}={token}; x=y", "sec-fetch-site": "same-origin"}

    async def refresh(self) -> None:
        session = self.session
        outcome = await self.services.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")
        self.session = outcome.instance

    def later(self, by_ms: int) -> None:
        """Advance the clock by ``by_ms``."""
        clock: Any = self.services.clock
        clock._ahead_of_monotonic_ns += by_ms * 1_000_000


@asynccontextmanager
async def gate_in(folder: Path, groups: tuple[str, ...] = (), **settings: Any) -> AsyncIterator[Gate]:
    settings = {"data": str(folder), "cheap_passwords_for_tests": True, "origins": (ALLOWED,), **settings}
    async with open_services(Settings(**settings)) as services:
        await registered(services, "ada", *groups)
        session = (await services.sessions.begin("ada", Authenticate("ada", "password"))).instance
        app = app_over(services)
        async with client_of(app) as http:
            yield Gate(services, http, session, app.forward_auth)
