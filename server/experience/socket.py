"""``WS /api/connect``: the live connection. The rules are :mod:`machine.conversation`'s; this moves its messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import structlog
from litestar import asgi
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send
from litestar.types.asgi_types import WebSocketAcceptEvent

from machine.closing import CLOSE_CODES, Close, Next
from machine.commands import Disconnect
from machine.conversation import SUBPROTOCOL, Conversation, Limits
from machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    CredentialRefused,
    InterlockError,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
    TooManyConnections,
    TransitionRefused,
)
from machine.ledger import Receipt, Record
from machine.session import Session
from server.experience.credentials import (
    Proof,
    bearer,
    check_origin,
    cookie,
    from_browser,
    prove_access_token,
    prove_cookie,
    prove_ticket,
)
from server.experience.problems import RequestRefused, send_problem
from server.experience.protocol import ABORT
from server.experience.room import make_room, record_connect
from server.experience.traffic import admit, admit_account
from server.ids import new_id
from server.runtime.sessions import commands, ensure_alive
from server.services import Services

_log = structlog.get_logger("interlock.http")

MESSAGE_BYTES: Final = 64 * 1024
_OUTBOX_LIMIT: Final = 256
_TICKET_PREFIX: Final = "ticket."
_ABNORMAL: Final = 1006
_BROKEN: Final = {row.code: row.name for row in CLOSE_CODES.values() if row.next is Next.MEND}
"""Ends of connections on which something came that is no message, whichever layer noticed."""


@asgi("/api/connect", copy_scope=False)
async def connect(scope: Scope, receive: Receive, send: Send) -> None:
    """Open the live connection, or say why not."""
    try:
        await _connect(scope, receive, send)
    except Exception as error:  # noqa: BLE001  # the last resort: Litestar would answer with a code of its own, and log nothing
        _log.error("socket.failed", exc_info=error)
        closing = closing_for(error)
        # Nobody knows how far it came. What is out of place, the server refuses to send.
        last: tuple[Any, Any] = (
            {"type": "websocket.accept", "subprotocol": None, "headers": []},
            {"type": "websocket.close", "code": closing.code, "reason": closing.reason},
        )
        for message in last:
            with suppress(RuntimeError, OSError):
                await send(message)


async def _connect(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == ScopeType.HTTP:
        await send_problem(scope, send, RequestRefused(426, "open this address as a WebSocket"))
        return
    services: Services = scope["litestar_app"].state.services
    await receive()
    try:
        subprotocol = _admit(services, scope)
    except InterlockError as error:
        await send_problem(scope, send, error)
        return
    accept: WebSocketAcceptEvent = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}
    connection_id = new_id("con")
    try:
        async with asyncio.timeout(services.settings.handshake_timeout_s):
            proof = await _prove(services, scope)
        # Not under the time limit: once it is handed to the log it happens, and then somebody has to hold it.
        if len(services.connections) >= services.settings.connections_total:
            raise Overloaded
        subject = proof.session.subject or ""
        admit_account(services, scope, "handshake", subject or proof.session.session_id)
        await make_room(services, subject)
        with services.connections.arriving(subject):
            receipt = await record_connect(services, proof.session, connection_id)
    except RateLimited as error:
        await send_problem(scope, send, error)
        return
    except (InterlockError, TimeoutError) as error:
        # A browser can't read a refused handshake: accept it, say why in the close code, hold nothing.
        closing = closing_for(error)
        _log.info("socket.refused", code=closing.code, because=closing.name)
        services.metrics.closed(closing.code, "server")
        await _accept_and_close(send, accept, error)
        return
    socket = Socket(services, scope, send, connection_id, proof)
    await socket.run(accept, receive, receipt)


class Socket:
    """One open WebSocket: the registry's port at one end, ASGI's ``send`` at the other.

    Nothing runs for an idle one: the receive loop waits, one timer waits for the credential's expiry, and a task to send
    lives only while there is something to send.
    """

    __slots__ = (
        "_abort",
        "_accepted",
        "_conversation",
        "_ended_at_ms",
        "_epoch",
        "_open",
        "_seen",
        "_send",
        "_sending",
        "_services",
        "_subject",
        "_timer",
    )

    def __init__(self, services: Services, scope: Any, send: Send, connection_id: str, proof: Proof) -> None:
        self._services = services
        self._epoch = proof.session.epoch
        self._subject = proof.session.subject or ""
        self._send: Any = send
        self._abort = scope["extensions"].get(ABORT, {}).get("abort")
        self._conversation = Conversation(
            connection_id, proof.session, authorised_until_ms=proof.authorised_until_ms, outbox_limit=_OUTBOX_LIMIT
        )
        self._accepted = False
        # For the trace: greeted and not ended yet, and the session's version that the conversation heard of last.
        self._open = False
        self._seen = proof.session.version
        self._ended_at_ms: int | None = None
        self._sending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, accept: Any, receive: Any, receipt: Receipt) -> None:
        """Hold the connection, of whose connect this is the ``receipt``, until it ends; then record that it is gone."""
        conversation, services = self._conversation, self._services
        code = _ABNORMAL
        services.connections.register(conversation.session_id, conversation.connection_id, self, self._subject)
        try:
            session = await services.sessions.load(conversation.session_id)
            # From here to the greeting nothing waits: whatever is recorded later reaches the registered port.
            self._look_again(session, receipt)
            await self._send(accept)
            self._accepted = True
            if services.settings.access_log:
                _log.info("socket.opened", connection_id=conversation.connection_id)
            self._set_timer()
            self._flush()
            code = await self._receive_all(receive)
        except InterlockError as error:
            # The session or the log went away before anything was open.
            conversation.close(closing_for(error))
            await _accept_and_close(self._send, accept, error)
        except OSError:
            self.close(Close("bye"))
        finally:
            services.connections.unregister(conversation.session_id, conversation.connection_id, self._subject)
            if self._timer is not None:
                self._timer.cancel()
            self._trace_end(gone=True)
            self._tell_close(code)
            await self._record_disconnect(code)
            if self._sending is not None:
                await self._sending

    def observe(self, record: Record, session: Session) -> None:
        """See :class:`server.runtime.connections.Port`."""
        if session.ended:
            self._ended_at_ms = record.transition.at_ms
        self._conversation.observe(record, session)
        self._seen = session.version
        self._flush()

    def close(self, closing: Close) -> None:
        """See :class:`server.runtime.connections.Port`."""
        self._conversation.close(closing)
        self._flush()

    def _tell_close(self, heard: int) -> None:
        """Log and count the end of the connection; ``heard`` is the code that the peer's end gave."""
        services, closing = self._services, self._conversation.closing
        # Nothing here says bye of its own accord: the peer was gone.
        code, by = (heard, "client") if closing is None or closing.name == "bye" else (closing.code, "server")
        services.metrics.closed(code, by)
        if code in _BROKEN:
            _log.info("socket.refused", code=code, because=_BROKEN[code])
        if services.settings.access_log:
            _log.info("socket.closed", connection_id=self._conversation.connection_id, code=code, by=by)

    async def _record_disconnect(self, code: int) -> None:
        conversation = self._conversation
        if conversation.closing is not None and conversation.closing.name == "session_ended":
            return
        disconnect = Disconnect(conversation.connection_id, code)
        while True:
            try:
                await self._services.sessions.submit(conversation.session_id, *commands("server", disconnect))
            except Overloaded as overloaded:
                # A connection nobody holds must not stay in the log until the next start.
                await asyncio.sleep(overloaded.retry_after_s)
            except InterlockError:
                # The session ended, or this connection was displaced, in the meantime; or the log stopped and is put right
                # at the next start.
                return
            else:
                return

    def _look_again(self, session: Session, receipt: Receipt) -> None:
        """Registering came after proof and connect: what came in between, such as a revocation, has missed the port."""
        try:
            ensure_alive(session, self._services.clock.now_ms())
        except SessionEnded as ended:
            self._conversation.close(closing_for(ended))
            return
        if session.epoch != self._epoch:
            self._conversation.close(Close("token_expired"))
            return
        if self._conversation.connection_id not in [held.connection_id for held in session.connections]:
            self._conversation.close(Close("displaced"))
            return
        if self._services.draining:
            self._conversation.close(Close("draining"))
            return
        settings = self._services.settings
        self._conversation.greet(
            session,
            receipt,
            ping_interval_ms=round(settings.ping_interval_s * 1000),
            limits=Limits(message_bytes=MESSAGE_BYTES),
        )
        self._open = True
        self._seen = session.version
        self._services.trace.opened(session.session_id, self._conversation.connection_id, session.version)

    async def _receive_all(self, receive: Any) -> int:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or _ABNORMAL)
            if message.get("text") is None:
                self._conversation.receive_bytes()
            else:
                request = self._conversation.receive_text(message["text"])
                if request is not None:
                    await self._reauthorise(request.access_token)
            self._flush()
            if self._sending is not None:
                # Answer before hearing more: a burst must fill the client's side of the wire, not the outbox.
                await asyncio.wait({self._sending})

    async def _reauthorise(self, token: str) -> None:
        try:
            proof = await prove_access_token(self._services, token)
            if proof.session.session_id != self._conversation.session_id:
                raise CredentialInvalid("the token is of another session")
        except InterlockError as error:
            closing = closing_for(error)
            _log.info("socket.refused", code=closing.code, because=closing.name)
            self._conversation.close(closing)
            return
        self._conversation.authorise(proof.session.epoch, proof.authorised_until_ms)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0, self._conversation.deadline_ms - self._services.clock.now_ms()) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._conversation.tick(self._services.clock.now_ms())
        if self._conversation.closing is None:
            self._set_timer()
        self._flush()

    def _trace_end(self, *, gone: bool = False) -> None:
        """Trace, once, that the open socket was ended by the server, or, when it is ``gone``, by the peer."""
        conversation, trace = self._conversation, self._services.trace
        if not self._open or not (gone or conversation.closing):
            return
        self._open = False
        if conversation.closing is not None:
            trace.closed(conversation.session_id, conversation.connection_id, self._seen, conversation.closing.code)
        else:
            trace.dropped(conversation.session_id, conversation.connection_id, self._seen)

    def _flush(self) -> None:
        self._trace_end()
        if self._accepted and self._sending is None:
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        """Send what waits; when the conversation is over, close. A peer that does not read is cut."""
        conversation = self._conversation
        try:
            async with asyncio.timeout(self._services.settings.send_timeout_s) as deadline:
                while messages := conversation.take():
                    for text in messages:
                        await self._send({"type": "websocket.send", "text": text})
                        deadline.reschedule(asyncio.get_running_loop().time() + self._services.settings.send_timeout_s)
                if conversation.closing is None:
                    self._sending = None
                    return
                closing = conversation.closing
                await self._send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})
                if self._ended_at_ms is not None:
                    self._services.metrics.ended(self._ended_at_ms)
        except TimeoutError:
            conversation.close(Close("slow_consumer"))
            if self._abort is not None:
                self._abort()
        except (OSError, RuntimeError):
            # The peer is gone; the receive loop hears of it too.
            conversation.close(Close("bye"))


def closing_for(error: Exception) -> Close:
    """How a connection ends that failed with ``error``."""
    match error:
        case SessionNotFound():
            return Close("session_not_found")
        case SessionEnded():
            return Close("session_ended", error.reason)
        case TokenExpired():
            return Close("token_expired")
        case CredentialRefused() | NotAuthenticated():
            return Close("not_authenticated", str(error))
        case TransitionRefused(guard="below_connection_limit") | TooManyConnections():
            return Close("too_many_connections")
        case TransitionRefused(state="created"):
            return Close("not_authenticated", "the session is anonymous; log in first")
        case Overloaded() | TimeoutError():
            return Close("overloaded")
    return Close("internal_error")


def _admit(services: Services, scope: Any) -> str | None:
    """What can be refused before the upgrade, over HTTP: origin, overload, subprotocol. Returns the one to speak."""
    check_origin(scope, services.settings.origins)
    admit(services, scope, "handshake")
    if services.draining or len(services.connections) >= services.settings.connections_total:
        raise Overloaded
    offered = scope["subprotocols"]
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    if offered:
        raise RequestRefused(400, f"offer the subprotocol {SUBPROTOCOL}")
    return None


async def _prove(services: Services, scope: Any) -> Proof:
    """The session of the handshake's credential: bearer header, else ticket, else cookie."""
    services.tokens.ensure_usable()
    token = bearer(scope)
    if token is not None:
        return await prove_access_token(services, token)
    for offered in scope["subprotocols"]:
        if offered.startswith(_TICKET_PREFIX):
            return await prove_ticket(services, offered.removeprefix(_TICKET_PREFIX))
    held = cookie(scope)
    if held is not None and from_browser(scope):
        return await prove_cookie(services, held)
    raise CredentialMissing("no credential")


async def _accept_and_close(send: Any, accept: Any, error: Exception) -> None:
    """Say in a close code why there is no connection; a peer that is gone need not hear it."""
    closing = closing_for(error)
    with suppress(OSError):
        await send(accept)
        await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})
