"""A WebSocket without a network: the ASGI end of one connection, over the real services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from machine.commands import Authenticate
from machine.session import Session
from server.experience.protocol import ABORT
from server.experience.socket import connect
from server.opening import open_services
from server.services import Services
from server.settings import Settings
from tests.support.server import UNLIMITED, check_trace


@asynccontextmanager
async def services_in(folder: Path, **settings: Any) -> AsyncIterator[Services]:
    """Everything the endpoints call, over folder ``folder``; in the end the trace of it is checked."""
    trace = folder / "trace.jsonl"
    settings = {"data": str(folder), "trace": str(trace), "cheap_passwords_for_tests": True, **UNLIMITED, **settings}
    try:
        async with open_services(Settings(**settings)) as services:
            yield services
    finally:
        # Also after a failure: the trace may know what is behind it.
        check_trace(trace)


class Wire:
    """The ASGI end of one connection. ``sent`` is what the server said; ``say`` what the peer does."""

    def __init__(self, services: Services, token: str | None, *, abort: bool = True) -> None:
        self.sent: list[dict[str, Any]] = []
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.aborted = False
        self.on_send: Callable[[dict[str, Any]], Awaitable[None]] | None = None
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        self.scope = {
            "type": "websocket",
            "headers": headers,
            "subprotocols": ["interlock.v1"],
            "extensions": {ABORT: {"abort": self.abort}} if abort else {},
            "litestar_app": SimpleNamespace(state=SimpleNamespace(services=services)),
        }
        self.say({"type": "websocket.connect"})

    def say(self, message: dict[str, Any]) -> None:
        self.heard.put_nowait(message)

    def leave(self, code: int = 1000) -> None:
        self.say({"type": "websocket.disconnect", "code": code})

    def abort(self) -> None:
        self.aborted = True
        self.leave(1006)

    async def send(self, message: dict[str, Any]) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.leave(message["code"])

    def run(self) -> asyncio.Task[None]:
        handler: Any = connect.fn
        return asyncio.create_task(handler(self.scope, self.heard.get, self.send))

    @property
    def said(self) -> list[str]:
        """What was said, in words: the kind of each message, and the code and reason of the close."""
        words: dict[str, Callable[[dict[str, Any]], str]] = {
            "websocket.accept": lambda _: "accept",
            "websocket.send": lambda message: str(json.loads(message["text"])["type"]),
            "websocket.close": lambda message: f"close {message['code']} {message['reason']}",
        }
        return [words[message["type"]](message) for message in self.sent]


async def log_in(services: Services) -> tuple[Session, str]:
    session = (await services.sessions.begin("ada", Authenticate("ada", "password"))).session
    return session, services.tokens.access_token(session)


async def events(services: Services, session: Session) -> list[str]:
    return [record.transition.event for record in await services.sessions.history(session.session_id, 0, 100)]
