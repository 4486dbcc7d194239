"""uvicorn's WebSocket protocol with the two things ASGI has no message for: our own heartbeat code, and cutting a socket.

A peer that answers no ping is closed with 4504 instead of uvicorn's 1011. A peer that does not read would hold ``close`` up
for as long as it likes: ``scope["extensions"]["interlock.abort"]`` drops the TCP connection at once.
"""

from __future__ import annotations

from typing import Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from machine.closing import Close

ABORT: Final = "interlock.abort"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection below ASGI."""

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
