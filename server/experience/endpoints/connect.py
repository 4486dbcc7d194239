"""``WS /api/connect``: the handshake. Refusals that browsers must be able to read are sent as close codes, others as HTTP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog
from litestar import asgi
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from interlock.machine.closing import Close
from interlock.machine.errors import CredentialMissing, InterlockError, Overloaded, RateLimited
from interlock.machine.session.messages import SUBPROTOCOL
from interlock.machine.session.session import Session
from interlock.server.experience.admission import address_of, admit, admit_account
from interlock.server.experience.credentials import (
    authenticate_bearer,
    kept_token,
    refuse_foreign,
)
from interlock.server.experience.headers import ALLOW_GET
from interlock.server.experience.problems import RequestRefused, send_problem
from interlock.server.experience.sockets.closings import logged_closing
from interlock.server.experience.sockets.socket import Socket
from interlock.server.experience.transport.exchange import EXTENSION, UPGRADE, Exchange
from interlock.server.experience.transport.handshake import handshake_key
from interlock.server.experience.transport.websocket import ABNORMAL, WebSocket
from interlock.server.guard.origins import Use
from interlock.server.ids import new_id
from interlock.server.runtime.authenticator import Authentication, first_good
from interlock.server.services import Services

_log = structlog.get_logger("interlock.http")

_SUBPROTOCOLS: Final = 16
"""How many offered subprotocols are read."""
_TICKET_PREFIX: Final = "ticket."


@asgi("/api/connect", copy_scope=False)
async def connect(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # ASGI's signature
    """Open the WebSocket, or answer why not."""
    try:
        await _connect(scope, send)
    except (InterlockError, HTTPException) as error:
        await send_problem(scope, send, error)


async def _connect(scope: Any, send: Any) -> None:
    """Answer the handshake, or OPTIONS.

    Raises:
        InterlockError, HTTPException: the handshake is refused over HTTP.
    """
    services: Services = scope["litestar_app"].state.services
    if scope["method"] == "OPTIONS":
        await send({"type": "http.response.start", "status": 204, "headers": [ALLOW_GET]})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["method"] != "GET":
        raise MethodNotAllowedException(headers={"Allow": "GET, OPTIONS"})
    exchange: Exchange = scope["extensions"][EXTENSION]
    upgrade: dict[str, Any] = {"type": UPGRADE, "key": handshake_key(exchange.request), "headers": []}
    exchange.refuse_early_data()
    subprotocols = _subprotocols(scope)
    if _admit(services, scope, subprotocols) is not None:
        upgrade["headers"] = [(b"sec-websocket-protocol", SUBPROTOCOL.encode())]
    try:
        socket = await _arrive(services, scope, subprotocols)
    except RateLimited:
        raise
    except Exception as error:  # noqa: BLE001  # the client can read any error only in the close code
        # A browser can't read a refused handshake: accept it, send the reason as close code, and hold nothing.
        closing = logged_closing(error)
        _log.info("socket.refused", code=closing.code, because=closing.name)
        services.metrics.closed(closing.code, "server")
        await _refuse(send, upgrade, closing)
        return
    try:
        await send({**upgrade, "handler": socket})
    except BaseException as error:
        # The client is gone, or did not wait for the answer: record the disconnect.
        socket.lost(ABNORMAL)
        if not isinstance(error, ConnectionError):
            raise


async def _arrive(services: Services, scope: Any, subprotocols: list[str]) -> Socket:
    """Authenticate the handshake, register its socket and record the connect. Handshakes take turns."""
    async with asyncio.timeout(services.settings.handshake_timeout_s) as limit, services.connections.turnstile:
        await services.connections.turns.wait()
        found = await _authenticate(services, scope, subprotocols)
        # No time limit from here: once the log has the connect, it happens, and a connection must hold it.
        limit.reschedule(None)
        services.connection_limits.ensure_capacity()
        admit_account(services, scope, "handshake", found.session.subject or found.session.session_id)
        connection_id = new_id("con")
        socket = Socket(services, connection_id, found, counted=services.addresses.counts(address_of(scope)))
        await services.connection_limits.admit(found, connection_id, socket)
        return socket


class RefusingHandler:
    """Handler of a WebSocket that is closed as soon as it opens."""

    __slots__ = ("_closing",)

    def __init__(self, closing: Close) -> None:
        self._closing = closing

    def opened(self, wire: WebSocket) -> None:
        """See :class:`interlock.server.experience.transport.websocket.WebSocketHandler`."""
        wire.close(self._closing)

    def text(self, text: str) -> None:
        """Ignore: the close frame has been sent."""

    def binary(self) -> None:
        """Ignore: the close frame has been sent."""

    def writable(self) -> None:
        """Ignore: nothing waits to be sent."""

    def broken(self, closing: Close) -> None:
        """Ignore: the close frame has been sent."""

    def lost(self, code: int) -> None:
        """Ignore: the connection was not recorded."""


def _subprotocols(scope: Any) -> list[str]:
    """Return the subprotocols that the client offers (RFC 6455, 4.1)."""
    offered = b",".join(value for name, value in scope["headers"] if name == b"sec-websocket-protocol")
    return [
        part.strip() for part in offered.decode("latin-1").split(",", _SUBPROTOCOLS)[:_SUBPROTOCOLS] if part.strip()
    ]


def _admit(services: Services, scope: Any, offered: list[str]) -> str | None:
    """Check origin, rate limit, capacity and subprotocol before the upgrade. Return the subprotocol to speak."""
    refuse_foreign(Use.HANDSHAKE, scope, services.settings.page_origins)
    admit(services, scope, "handshake")
    if services.draining:
        raise Overloaded
    services.connection_limits.ensure_capacity()
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    if offered:
        raise RequestRefused(400, f"offer the subprotocol {SUBPROTOCOL}")
    return None


async def _authenticate(services: Services, scope: Any, offered: list[str]) -> Authentication:
    """Return the session of the handshake's credential: bearer header, else ticket.

    An invalid one does not hide the next, unless that is of another session. The cookie is not accepted: it would be a use
    of the refresh token without an exchange, so a stolen copy could keep a socket open unnoticed.

    Raises:
        CredentialRefused, SessionNotFound: no credential opens a session.
    """
    services.tokens.ensure_usable()
    tickets = [each.removeprefix(_TICKET_PREFIX) for each in offered if each.startswith(_TICKET_PREFIX)]
    by_ticket = [partial(services.authenticator.by_ticket, ticket) for ticket in tickets[:1]]
    by_bearer = partial(authenticate_bearer, services, scope)
    found = await first_good(_session_of, by_bearer, *by_ticket, _no_credential)
    await services.authenticator.refuse_replaced(found.session, kept_token(scope))
    return found


async def _no_credential() -> Authentication:
    raise CredentialMissing("no credential")


def _session_of(found: Authentication) -> Session:
    return found.session


async def _refuse(send: Any, upgrade: dict[str, Any], closing: Close) -> None:
    """Send the reason as close code. Ignore that the peer is gone."""
    with suppress(ConnectionError):
        await send({**upgrade, "handler": RefusingHandler(closing)})
