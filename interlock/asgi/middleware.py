"""The ASGI middleware: whose request it is, and an end to what is open when the session ends."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from interlock.asgi.denials import Denial, Denied, closing
from interlock.asgi.verifier import Verifier
from interlock.machine.closing import Close

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY: Final = "interlock"
"""Where the application finds the :class:`~interlock.asgi.Session`: ``scope["interlock"]``."""

_SUBPROTOCOL: Final = "bearer."
_SCHEME: Final = "bearer "


class InterlockMiddleware:
    """Serves ``app`` to live sessions of the Interlock server at ``url`` only. ``scope["interlock"]`` says whose request it is.

    ``client`` and ``subscriber`` are the secrets for introspection and for the ends of sessions. While the server can't be
    reached, requests get 503, and sockets are closed at the latest ``stale_after_s`` after its last word. A token is refused as
    soon as the end of its session arrives, and at the latest ``cache_s`` after the end, or after what made it invalid.
    """

    def __init__(  # noqa: PLR0913  # all but the first two are keyword arguments
        self,
        app: App,
        url: str,
        *,
        client: str,
        subscriber: str,
        allow_anonymous: bool = False,
        stale_after_s: float = 60,
        cache_s: float = 10,
    ) -> None:
        self._app = app
        self._verifier = Verifier(
            url,
            client=client,
            subscriber=subscriber,
            allow_anonymous=allow_anonymous,
            stale_after_s=stale_after_s,
            cache_s=cache_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        match scope["type"]:
            case "http":
                await self._serve(scope, _Response(receive, send))
            case "websocket":
                await self._serve(scope, _Socket(scope, receive, send))
            case "lifespan":
                self._verifier.start()
                try:
                    await self._app(scope, receive, send)
                finally:
                    await self._verifier.close()
            case _:
                await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            if isinstance(exchange, _Socket):
                await self._verifier.followed()
            use, session = await self._verifier.admit(_token(scope), exchange.end)
        except Denied as denied:
            await exchange.deny(denied.denial)
            return
        try:
            # The token in the subprotocols is not for the application, which might answer with it.
            offered = [each for each in scope.get("subprotocols", ()) if not each.startswith(_SUBPROTOCOL)]
            scope = {**scope, KEY: session}
            if "subprotocols" in scope:
                scope["subprotocols"] = offered
            await self._app(scope, exchange.receive, exchange.send)
        except SessionGone:
            pass  # the application did not catch it, and need not
        finally:
            self._verifier.leave(use)


class SessionGone(OSError):
    """The session has ended, and with it the connection: as a server raises it for a client that has gone."""


class _Exchange(ABC):
    """What the application receives and sends. ``ended``: the close with which the session has ended."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._receive = receive
        self._send = send

    def end(self, close: Close) -> None:
        """End what is open."""
        self.ended.set_result(close)

    @abstractmethod
    async def deny(self, denial: Denial) -> None:
        """Refuse it."""

    async def receive(self) -> Message:
        """Return the client's next message, or its disconnect when the session ends."""
        if not self.ended.done():
            receiving = asyncio.ensure_future(self._receive())
            try:
                either: set[asyncio.Future[Any]] = {receiving, self.ended}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    return receiving.result()
            finally:
                receiving.cancel()
        return self.disconnect()

    @abstractmethod
    def disconnect(self) -> Message:
        """Return the message that tells the application of the end."""

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Send a message of the application."""


class _Response(_Exchange):
    """A request and its response. The end of its session cuts a stream short, and leaves a response alone that is whole."""

    async def deny(self, denial: Denial) -> None:
        await self._send({"type": "http.response.start", "status": denial.status, "headers": denial.headers()})
        await self._send({"type": "http.response.body", "body": denial.body()})

    def disconnect(self) -> Message:
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.ended.done() and message.get("more_body"):
            raise SessionGone("the session has ended")
        await self._send(message)


class _Socket(_Exchange):
    """A WebSocket. The end of its session closes it with the code that Interlock's own sockets close with."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        offered = [each for each in scope.get("subprotocols", ()) if not each.startswith(_SUBPROTOCOL)]
        # A browser fails a handshake in which the server selects none of the subprotocols that it has offered.
        self._subprotocol = offered[0] if offered else None
        self._accepted = False
        self._closing: asyncio.Task[None] | None = None

    def end(self, close: Close) -> None:
        super().end(close)
        if self._accepted:
            self._closing = asyncio.ensure_future(self._send(closing(close)))

    async def deny(self, denial: Denial) -> None:
        # A page can't read a refused handshake, so it is accepted and closed.
        await self._receive()
        await self._send({"type": "websocket.accept", "subprotocol": self._subprotocol})
        await self._send(closing(denial.close))

    def disconnect(self) -> Message:
        close = self.ended.result()
        return {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            await self._send({**message, "subprotocol": message.get("subprotocol") or self._subprotocol})
            self._accepted = True
            if self.ended.done() and self._closing is None:
                await self._send(closing(self.ended.result()))
            return
        if self.ended.done():
            raise SessionGone("the session has ended")
        await self._send(message)


def _token(scope: Scope) -> str | None:
    """Return the access token of a request: its bearer token, or that in a subprotocol of a WebSocket."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME.encode():
            return str(value[len(_SCHEME) :].strip().decode("latin-1"))
    for offered in scope.get("subprotocols", ()):
        if offered.startswith(_SUBPROTOCOL):
            return str(offered.removeprefix(_SUBPROTOCOL))
    return None
