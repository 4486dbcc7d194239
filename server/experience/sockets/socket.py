"""One open WebSocket. :mod:`interlock.machine.session.conversation` holds the rules; this transports its messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Final

import structlog

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ensure_serves
from interlock.machine.closing import CLOSE_CODES, ClientAction, Close
from interlock.machine.errors import (
    CredentialInvalid,
    InterlockError,
    RateLimited,
    SessionEnded,
)
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Disconnect
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.messages import CancelRequest, Limits, RefreshRequest, SubmitRequest
from interlock.machine.session.session import FINAL_STATES
from interlock.server.experience.sockets.closings import closing_for, logged_closing
from interlock.server.experience.sockets.requests import UNANSWERED, answer, refuse
from interlock.server.experience.transport.websocket import MESSAGE_BYTES, WebSocket
from interlock.server.runtime.authenticator import Authentication
from interlock.server.services import Services

_log = structlog.get_logger("interlock.http")

_OUTBOX_LIMIT: Final = 256
_LIMITS: Final = Limits(message_bytes=MESSAGE_BYTES, unanswered=UNANSWERED)
_TOKENS: Final = 4
"""Access tokens of a connection that may wait to be checked."""
_ABNORMAL: Final = 1006
_BROKEN: Final = {row.code: row.name for row in CLOSE_CODES.values() if row.next is ClientAction.FIX_CLIENT}
"""Close codes of connections that sent something invalid, whichever layer noticed."""


class Socket:
    """One open WebSocket: registered as a ``ConnectionListener`` at one end, handler of the connection at the other.

    It is registered before its connect is recorded, and greets the client when it observes that record, so it observes every
    later one. No task runs for it. One timer waits for the credential's expiry; a task checks a new credential, answers a
    request, or records the end. ``counted``: the account's rate limits apply to it.
    """

    __slots__ = (
        "_account_epoch",
        "_context",
        "_conversation",
        "_counted",
        "_ended_at_ms",
        "_kid",
        "_open",
        "_seen",
        "_services",
        "_session_over",
        "_subject",
        "_timer",
        "_timer_ms",
        "_tokens",
        "_unanswered",
        "_wire",
    )

    def __init__(self, services: Services, connection_id: str, found: Authentication, *, counted: bool) -> None:
        self._services = services
        # What lines in the log say of the handshake's request, they say of the connection until it is gone.
        self._context = copy_context()
        self._kid = found.kid
        # A later login on the session, which changes this epoch, closes the socket.
        self._account_epoch = found.session.account_epoch
        self._subject = found.session.subject or ""
        self._conversation = Conversation(
            connection_id,
            found.session,
            authorised_until_ms=found.authorised_until_ms,
            outbox_limit=_OUTBOX_LIMIT,
            ping_interval_ms=round(services.settings.ping_interval_s * 1000),
            limits=_LIMITS,
            open_stream=partial(services.streams.of, found.session.session_id),
        )
        self._counted = counted
        # The number of intents and cancels in work.
        self._unanswered = 0
        self._wire: WebSocket | None = None
        # For the trace: greeted and not ended yet, and the session's version that the conversation heard of last.
        self._open = False
        self._seen = found.session.version
        self._ended_at_ms: int | None = None
        # The end of the session is recorded, and removes the connection.
        self._session_over = False
        self._timer: asyncio.TimerHandle | None = None
        # The deadline of the conversation that the timer waits for.
        self._timer_ms = 0
        # Access tokens that are checked one after the other; None while there is none.
        self._tokens: list[str] | None = None

    # What the connection calls: see interlock.server.experience.transport.websocket.WebSocketHandler

    def opened(self, wire: WebSocket) -> None:
        """Start the timer, and send what waits."""
        self._wire = wire
        if self._services.draining:
            # The drain may have begun before the socket was registered.
            self._conversation.close(Close("draining"))
        if self._services.settings.access_log:
            _log.info("socket.opened", connection_id=self._conversation.connection_id)
        self._set_timer()
        self._flush()

    def text(self, text: str) -> None:
        """Handle a text message. None waits for the answer to another, so a ping is answered at once."""
        request = self._conversation.receive_text(text)
        if isinstance(request, RefreshRequest):
            self._check(request.access_token)
        elif request is not None:
            self._begin(request)
        self._flush()

    def binary(self) -> None:
        """Handle a binary message."""
        self._conversation.receive_bytes()
        self._flush()

    def writable(self) -> None:
        """Send what waits."""
        self._flush()

    def broken(self, closing: Close) -> None:
        """Close after the peer broke the protocol or a limit."""
        self.close(closing)

    def lost(self, heard: int) -> None:
        """Unregister the connection and record its end. ``heard`` is the peer's close code."""
        conversation, services = self._conversation, self._services
        self._wire = None
        services.connections.unregister(conversation.session_id, conversation.connection_id, self._subject)
        if self._timer is not None:
            self._timer.cancel()
        self._trace_end(gone=True)
        closing = conversation.closing
        code, by = (heard, "client") if closing is None else (closing.code, "server")
        services.metrics.closed(code, by)
        self._context.run(self._log_closed, code, by)
        if not self._session_over:
            self._context.run(services.spawn, self._record_disconnect(code, by))

    def _log_closed(self, code: int, by: str) -> None:
        if code in _BROKEN:
            _log.info("socket.refused", code=code, because=_BROKEN[code])
        if self._services.settings.access_log:
            _log.info("socket.closed", connection_id=self._conversation.connection_id, code=code, by=by)

    def observe(self, record: Record) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        move = record.transition
        if move.target in FINAL_STATES:
            self._ended_at_ms = move.at_ms
            self._session_over = True
        conversation, greeted = self._conversation, self._conversation.greeted
        conversation.observe(record)
        self._seen = move.version
        if conversation.greeted and not greeted and conversation.closing is None:
            self._open = True
            self._services.trace.opened(conversation.session_id, conversation.connection_id, move.version)
        self._flush()

    def observe_account(self, account: Account | None) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        if account is None:
            # The client refreshes, which shows whether its session is still valid.
            self.close(Close("token_expired"))
            return
        try:
            ensure_serves(account, self._account_epoch)
        except SessionEnded as ended:
            self._ended_at_ms = account.updated_at_ms
            self.close(closing_for(ended))

    def wake(self) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        self._continue()

    def close(self, closing: Close) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        self._conversation.close(closing)
        self._flush()

    def look_at_keys(self) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        try:
            self._services.tokens.ensure_verifies(self._kid)
        except InterlockError as error:
            self.close(closing_for(error))

    def abort(self) -> None:
        """See :class:`interlock.server.runtime.connections.ConnectionListener`."""
        if self._wire is not None:
            self._wire.abort()
        else:
            # Not open yet: then it never opens.
            self._conversation.close(Close("internal_error"))

    async def _record_disconnect(self, code: int, by: str) -> None:
        conversation = self._conversation
        # Not to be recorded any more if the session ended, or this connection was displaced, in the meantime; or the log
        # stopped and is put right at the next start.
        with suppress(InterlockError):
            disconnect = Disconnect(conversation.connection_id, code)
            # Both sides close with 1000 and 1001, so the actor says which of them did. Without a close frame neither did.
            actor = self._subject if by == "client" and code != _ABNORMAL else "server"
            await self._services.sessions.insist(conversation.session_id, actor, disconnect)

    def _begin(self, request: SubmitRequest | CancelRequest) -> None:
        """Answer ``request`` in its own task, or refuse it if the client has too many unanswered ones."""
        if self._unanswered < UNANSWERED:
            self._unanswered += 1
            self._context.run(self._services.spawn, self._answer(request))
        else:
            self._context.run(refuse, self._services, self._conversation, request, RateLimited(retry_after_s=1))

    async def _answer(self, request: SubmitRequest | CancelRequest) -> None:
        await answer(self._services, self._conversation, request, counted=self._counted)
        self._unanswered -= 1
        self._flush()

    def _check(self, token: str) -> None:
        """Check a new access token, after those that came before."""
        if self._tokens is None:
            self._tokens = [token]
            self._context.run(self._services.spawn, self._reauthorise(self._tokens))
        elif len(self._tokens) < _TOKENS:
            self._tokens.append(token)
        else:
            self.close(Close("flood"))

    async def _reauthorise(self, tokens: list[str]) -> None:
        """Check the new credentials in turn. The connection may have ended meanwhile."""
        conversation = self._conversation
        try:
            while tokens and conversation.closing is None:
                found = await self._services.authenticator.by_access_token(tokens[0])
                if found.session.session_id != conversation.session_id:
                    raise CredentialInvalid("the token belongs to another session")  # noqa: TRY301  # as any bad one
                # The key may be gone since: this connection did not depend on it yet.
                await self._services.authenticator.ensure_key_and_account(found)
                conversation.authorise(found.session.epoch, found.authorised_until_ms)
                self._kid = found.kid
                del tokens[0]
                self._continue()
        except Exception as error:  # noqa: BLE001  # else the connection would stay, and nothing be heard on it
            closing = logged_closing(error)
            _log.info("socket.refused", code=closing.code, because=closing.name)
            self.close(closing)
        self._tokens = None

    def _continue(self) -> None:
        """Send what waits. The time of the next tick may have changed."""
        if self._wire is not None:
            self._set_timer()
        self._flush()

    def _set_timer(self) -> None:
        deadline_ms = self._conversation.deadline_ms
        if self._timer is not None:
            if deadline_ms == self._timer_ms:
                return
            self._timer.cancel()
        self._timer_ms = deadline_ms
        delay_s = max(0, deadline_ms - self._services.clock.now_ms()) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self._conversation.tick(self._services.clock.now_ms())
            if self._conversation.closing is None:
                self._set_timer()
            self._flush()
        except Exception as error:  # noqa: BLE001  # else the connection would outlive its credential
            _log.error("socket.failed", exc_info=error)
            self.abort()

    def _trace_end(self, *, gone: bool = False) -> None:
        """Trace, once, that the server ended the open socket, or, when it is ``gone``, the peer."""
        conversation, trace = self._conversation, self._services.trace
        if not self._open or not (gone or conversation.closing):
            return
        self._open = False
        if conversation.closing is not None:
            trace.closed(conversation.session_id, conversation.connection_id, self._seen, conversation.closing.code)
        else:
            trace.dropped(conversation.session_id, conversation.connection_id, self._seen)

    def _flush(self) -> None:
        """Send what waits while the peer takes it, and close if the conversation is over."""
        self._trace_end()
        wire, conversation = self._wire, self._conversation
        if wire is None:
            return
        # At the end all is sent: what is queued, at most, is what may wait anyway.
        while (wire.writable or conversation.closing is not None) and (texts := conversation.take()):
            for text in texts:
                wire.send(text)
        if conversation.closing is not None:
            wire.close(conversation.closing)
            if self._ended_at_ms is not None:
                self._services.metrics.ended(self._ended_at_ms)
                self._ended_at_ms = None
