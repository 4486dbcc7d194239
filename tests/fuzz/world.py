"""The attacked system: services over a real log, and a connection's two protocols on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from interlock.machine.session.commands import Authenticate
from interlock.server.app import app_over
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.inside import client_of
from tests.support.upgraded import Upgrading, upgrading


class World:
    """A server without its sockets: a real log, a logged-in session, and an event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.tries = 0
        self._runner.run(self._open())

    async def _open(self) -> None:
        settings = Settings(data=str(self._folder), cheap_passwords_for_tests=True, access_token_s=86_400)
        self.services: Services = await self._stack.enter_async_context(open_services(settings))
        await registered(self.services, "ada")
        self.session = (await self.services.sessions.authenticate(None, Authenticate("ada", "password"))).instance
        self.access_token = self.services.tokens.access_token(self.session)
        self.refresh_token = self.services.tokens.refresh_token(self.session)
        self.secret = self.services.clients.create("gateway", 1)
        self.upgrading: Upgrading = await self._stack.enter_async_context(upgrading(limit_frames="off"))
        self.http = await self._stack.enter_async_context(client_of(app_over(self.services)))

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        self.tries += 1
        return self._runner.run(work)

    def close(self) -> None:
        """Close the log."""
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def check_untouched(self) -> None:
        """Check that the attacked session is unchanged."""
        history = self.run(self.services.sessions.history(self.session.session_id, 0, 100))
        assert [record.transition.event for record in history] == ["create", "authenticate"]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Open a world over ``folder`` until the context ends; then nothing in it may have changed."""
    made = World(folder)
    try:
        yield made
        made.check_untouched()
    finally:
        made.close()
