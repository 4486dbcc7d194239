"""A WebSocket without a network: the far end of one connection, over the real services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from interlock.machine.closing import Close
from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from interlock.realm import Realm, Realms
from interlock.server.experience.admission import note_address
from interlock.server.experience.endpoints.connect import connect
from interlock.server.experience.transport.exchange import EXTENSION, UPGRADE
from interlock.server.experience.transport.reader import Request
from interlock.server.experience.transport.websocket import WebSocketHandler
from interlock.server.runtime.connections import Connections
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.running import eventually
from tests.support.server import UNLIMITED, check_trace


@asynccontextmanager
async def services_in(folder: Path, *realms: Realm, **settings: Any) -> AsyncIterator[Services]:
    """Yield everything that endpoints call, over folder ``folder``, with ``realms``. Check its trace at the end."""
    trace = folder / "trace.jsonl"
    settings = {
        "data": str(folder),
        "model_trace": str(trace),
        "cheap_passwords_for_tests": True,
        **UNLIMITED,
        **settings,
    }
    try:
        async with open_services(Settings(**settings), Realms(realms)) as services:
            yield services
    finally:
        # Even after a failure: the trace may show the cause.
        check_trace(trace)


class Wire:
    """The network's end of one connection. ``say`` and ``leave`` act as the peer.

    ``heard`` holds the server's messages; ``said`` their types, and what else the server did.
    """

    def __init__(self, services: Services, token: str | None, *, subprotocols: str = "interlock.v1") -> None:
        self.said: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self.reading = True
        self.writable = True
        self.on_upgrade: Callable[[], None] | None = None
        self._services = services
        self._endpoint: WebSocketHandler | None = None
        self._over = asyncio.Event()
        self._code = 0
        headers = [
            (b"connection", b"upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"sec-websocket-protocol", subprotocols.encode()),
        ]
        if token:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        request = Request("GET", b"/api/connect", "1.1", headers, True, True, False, b"")  # noqa: FBT003  # a valid handshake
        self.scope = {
            "type": "http",
            "method": "GET",
            "query_string": b"",
            "headers": headers,
            "extensions": {EXTENSION: SimpleNamespace(request=request, refuse_early_data=lambda: None)},
            "litestar_app": SimpleNamespace(state=SimpleNamespace(services=services)),
            "state": {},
        }
        note_address(services, self.scope)

    def say(self, text: str) -> None:
        """Send a text message."""
        assert self._endpoint is not None
        self._endpoint.text(text)

    def leave(self, code: int = 1000) -> None:
        """Close; if the handshake is not answered yet, right after it is."""
        self._code = code
        if self._endpoint is not None and not self._over.is_set():
            self._over.set()
            self._endpoint.lost(code)

    def read_again(self) -> None:
        """Read again from now on."""
        assert self._endpoint is not None
        self.writable = True
        self._endpoint.writable()

    # Called by the server's end: see interlock.server.experience.transport.websocket.WebSocket

    def send(self, text: bytes) -> None:
        self.heard.append(json.loads(text))
        self.said.append(str(self.heard[-1]["type"]))

    def close(self, closing: Close) -> None:
        if not self._code:
            self.said.append(f"close {closing.code} {closing.reason}")
            self._code = closing.code
            asyncio.get_running_loop().call_soon(self.leave, closing.code)

    def abort(self) -> None:
        self.said.append("aborted")
        self.leave(1006)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def run(self) -> asyncio.Task[None]:
        """Complete the handshake. The task ends when the connection is over and that is recorded."""
        return asyncio.create_task(self._run())

    async def _run(self) -> None:
        handler: Any = connect.fn
        await handler(self.scope, None, self._asgi_send)
        if self._endpoint is not None:
            await self._over.wait()
        while self._services.tasks:
            await asyncio.wait(self._services.tasks)

    async def _asgi_send(self, message: dict[str, Any]) -> None:
        if message["type"] != UPGRADE:
            self.said.append(message["type"])
            return
        if self.on_upgrade is not None:
            self.on_upgrade()
        self.said.append("accept")
        self._endpoint = message["handler"]
        self._endpoint.opened(self)  # type: ignore[arg-type]  # it has all of a WebSocket that an endpoint uses
        if self._code:
            self.leave(self._code)


async def log_in(services: Services) -> tuple[Session, str]:
    if await services.accounts.by_id("ada") is None:
        await registered(services, "ada")
    session = (await services.sessions.begin("ada", Authenticate("ada", "password"))).instance
    return session, services.tokens.access_token(session)


async def greeted(services: Services) -> tuple[Session, Wire, asyncio.Task[None]]:
    """Log in and open a socket. Return when it has its hello; the task is that of :meth:`Wire.run`."""
    session, token = await log_in(services)
    wire = Wire(services, token)
    running = wire.run()
    await eventually(lambda: "hello" in wire.said)
    return session, wire, running


async def events(services: Services, session: Session) -> list[str]:
    return [record.transition.event for record in await services.sessions.history(session.session_id, 0, 100)]


def after_connect(services: Services, change: Callable[[], Awaitable[object]]) -> None:
    """Have ``change`` happen once, after the next connect was recorded and before its handshake is answered."""
    limits: Any = services.connection_limits
    admit = limits.admit

    async def admit_and_change(*arguments: Any) -> None:
        limits.admit = admit
        await admit(*arguments)
        await change()

    limits.admit = admit_and_change


def register(connections: Connections, session_id: str, connection_id: str, port: Any, subject: str) -> None:
    """Register a connection without recording it."""
    with connections.arriving(session_id, connection_id, port, subject):
        pass
