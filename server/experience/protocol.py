"""uvicorn's WebSocket protocol with the two things ASGI has no message for: our own heartbeat code, and cutting a socket.

A peer that answers no ping is closed with 4504 instead of uvicorn's 1011. A peer that does not read would hold ``close`` up
for as long as it likes: ``scope["extensions"]["interlock.abort"]`` drops the TCP connection at once.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request, Response

from machine.closing import Close
from server.experience.headers import NO_STORE, SECURITY

ABORT: Final = "interlock.abort"
_ABNORMAL: Final = 1006


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection below ASGI. Numbers in brackets are sections of RFC 6455."""

    _late_pong = b""
    on_lost: Callable[[], None] | None = None
    """Called when the TCP connection is gone."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._send_response = self.conn.send_response
        self.conn.send_response = self._refuse  # type: ignore[method-assign]  # the one way every answer but ours goes

    def _refuse(self, response: Response) -> None:
        """Send the answer to a handshake; whoever refused it, with the headers of every answer."""
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            for name, value in [*SECURITY, NO_STORE]:
                response.headers.setdefault(name.decode(), value.decode())
        self._send_response(response)

    def handle_connect(self, event: Request) -> None:
        """Offer the abort to the application; the scope exists once the handshake was well formed."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = {"abort": self.abort}

    async def send(self, message: ASGISendEvent) -> None:
        """Send as uvicorn does; a handshake that was refused over HTTP counts as complete, so it is not logged as a fault."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
        if self.close_timer is not None:
            # uvicorn would wait for a peer that reads nothing to take what is still to be sent.
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.abort)

    def handle_ping(self) -> None:
        """Answer, but let no answers pile up: to a peer that pings and reads nothing, the last one is enough (5.5.3)."""
        pongs = self.conn.data_to_send()
        if self.close_sent or not pongs:
            return
        if self.writable.is_set():
            self.transport.write(b"".join(pongs))
        else:
            self._late_pong = pongs[-1]

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        if self._late_pong and not self.close_sent:
            self.transport.write(self._late_pong)
        self._late_pong = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a close frame the code is 1006 (7.1.5); uvicorn says 1005. Whoever said something before is heard first."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""})
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def keepalive_timeout(self) -> None:
        """The peer has not answered a ping: tell it, in case it only is slow, and drop the connection."""
        closing = Close("heartbeat_lost")
        self.pong_timer = None
        self.pending_ping_payload = None
        if self.close_sent or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.conn.send_close(closing.code, closing.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.abort)

    def abort(self) -> None:
        """Drop the TCP connection without waiting for what is still to be sent."""
        self.transport.abort()
