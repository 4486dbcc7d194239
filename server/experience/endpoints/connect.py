"""``WS /api/connect``: the handshake. What can be refused over HTTP is; what a browser has to read is said in a close code."""

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
from interlock.machine.ledger import Receipt
from interlock.machine.session.conversation import SUBPROTOCOL
from interlock.machine.session.session import Session
from interlock.server.experience.admission import admit, admit_account
from interlock.server.experience.credentials import (
    authenticate_bearer,
    kept_token,
    refuse_foreign,
)
from interlock.server.experience.headers import ALLOW_GET
from interlock.server.experience.problems import RequestRefused, send_problem
from interlock.server.experience.transport.exchange import EXTENSION, UPGRADE, Exchange
from interlock.server.experience.transport.handshake import handshake_key
from interlock.server.experience.transport.websocket import ABNORMAL, WebSocket
from interlock.server.experience.websocket import Socket, closing_told
from interlock.server.guard.origins import Use
from interlock.server.ids import new_id
from interlock.server.runtime.authenticator import Authentication, first_good
from interlock.server.services import Services

_log = structlog.get_logger("interlock.http")

_SUBPROTOCOLS: Final = 16
"""So many offers are looked at."""
_TICKET_PREFIX: Final = "ticket."


@asgi("/api/connect", copy_scope=False)
async def connect(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # ASGI's signature
    """Open the live connection, or say why not."""
    try:
        await _connect(scope, send)
    except (InterlockError, HTTPException) as error:
        await send_problem(scope, send, error)


async def _connect(scope: Any, send: Any) -> None:
    """Shake hands; or tell the methods that there are.

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
    connection_id = new_id("con")
    try:
        found, receipt = await _arrive(services, scope, subprotocols, connection_id)
    except RateLimited:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the client can read it in the close code only
        # A browser can't read a refused handshake: accept it, say why in the close code, hold nothing.
        closing = closing_told(error)
        _log.info("socket.refused", code=closing.code, because=closing.name)
        services.metrics.closed(closing.code, "server")
        await _refuse(send, upgrade, closing)
        return
    await _open(Socket(services, connection_id, found), send, upgrade, receipt)


async def _arrive(
    services: Services, scope: Any, subprotocols: list[str], connection_id: str
) -> tuple[Authentication, Receipt]:
    """Authenticate the handshake and record the connect, in turn with the other handshakes."""
    async with asyncio.timeout(services.settings.handshake_timeout_s) as limit, services.connections.turnstile:
        await services.connections.steps.wait()
        found = await _authenticate(services, scope, subprotocols)
        # No time limit any more: once it is handed to the log it happens, and then somebody has to hold it.
        limit.reschedule(None)
        services.connection_limits.ensure_room()
        admit_account(services, scope, "handshake", found.session.subject or found.session.session_id)
        return found, await services.connection_limits.admit(found.session, connection_id)


async def _open(socket: Socket, send: Any, upgrade: dict[str, Any], receipt: Receipt) -> None:
    """Answer the handshake of a connection whose connect is recorded. If nobody is there any more, that is recorded.

    Raises:
        RequestRefused: the client did not wait for the answer.
    """
    try:
        await socket.arrive(receipt)
        await send({**upgrade, "handler": socket})
    except RequestRefused:
        socket.lost(ABNORMAL)
        raise
    except ConnectionError:
        socket.lost(ABNORMAL)
    except Exception as error:  # noqa: BLE001  # the session or the log went away before anything was open
        closing = closing_told(error)
        socket.close(closing)
        socket.lost(ABNORMAL)
        await _refuse(send, upgrade, closing)


class RefusingHandler:
    """The end of a WebSocket that is closed as soon as it is open."""

    __slots__ = ("_closing",)

    def __init__(self, closing: Close) -> None:
        self._closing = closing

    def opened(self, wire: WebSocket) -> None:
        """See :class:`interlock.server.experience.transport.websocket.WebSocketHandler`."""
        wire.close(self._closing)

    def text(self, text: str) -> None:
        """Ignore: the close frame is already sent."""

    def binary(self) -> None:
        """Ignore: the close frame is already sent."""

    def writable(self) -> None:
        """Nothing waits to be sent."""

    def broken(self, closing: Close) -> None:
        """Ignore: the close frame is already sent."""

    def lost(self, code: int) -> None:
        """Ignore: the connection was not recorded."""


def _subprotocols(scope: Any) -> list[str]:
    """The subprotocols that the client offers (RFC 6455, 4.1)."""
    offered = b",".join(value for name, value in scope["headers"] if name == b"sec-websocket-protocol")
    return [
        part.strip() for part in offered.decode("latin-1").split(",", _SUBPROTOCOLS)[:_SUBPROTOCOLS] if part.strip()
    ]


def _admit(services: Services, scope: Any, offered: list[str]) -> str | None:
    """What can be refused before the upgrade, over HTTP: origin, overload, subprotocol. Returns the one to speak."""
    refuse_foreign(Use.HANDSHAKE, scope, services.settings.origins)
    admit(services, scope, "handshake")
    if services.draining:
        raise Overloaded
    services.connection_limits.ensure_room()
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    if offered:
        raise RequestRefused(400, f"offer the subprotocol {SUBPROTOCOL}")
    return None


async def _authenticate(services: Services, scope: Any, offered: list[str]) -> Authentication:
    """The session of the handshake's credential: bearer header, else ticket.

    A bad one does not hide the next, unless that is of another session. The cookie is none: a socket that it opened would be a
    use of the refresh token that exchanges nothing, so a copy could keep one open without a trace.

    Raises:
        CredentialRefused, SessionNotFound: none of them opens one.
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
    """Say in a close code why there is no connection; a peer that is gone need not hear it."""
    with suppress(ConnectionError):
        await send({**upgrade, "handler": RefusingHandler(closing)})
