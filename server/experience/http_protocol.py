"""uvicorn's HTTP protocol with the one thing ASGI has no message for: cutting a connection whose peer does not read."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.experience.protocol import ABORT


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection below ASGI. ``scope["extensions"]["interlock.abort"]`` drops it at once."""

    def on_message_begin(self) -> None:
        """Offer the abort to the application."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
