"""Around every request: its id, what is measured of it, its span, its line in the access log."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import structlog
from litestar import Litestar

from server.context import begin_request
from server.experience.credentials import header
from server.experience.forward_auth_api import ForwardAuth
from server.experience.headers import RawHeaders
from server.experience.openapi import FORWARD_AUTH
from server.experience.traffic import address_of
from server.ids import next_id
from server.services import Services

_log = structlog.get_logger("interlock.http")

REQUEST_ID_HEADER: Final = b"x-request-id"
NO_ROUTE: Final = "none"
_GOOD_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SWITCHING_PROTOCOLS: Final = 101
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


class ObservedApp(Litestar):
    """The application, watched from outside its own routing, so that what no route answers is seen as well."""

    services: Services
    """What the endpoints work with; there before the first request."""

    forward_auth: ForwardAuth
    """What no route of Litestar's answers; there before the first request, too."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI's entry point."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        services = self.services
        request_id = _request_id(services, scope)
        # A WebSocket begins as a GET.
        method = scope.get("method", "GET")
        began_ns = time.monotonic_ns()
        passes: RawHeaders | Exception | None = None
        if scope["path"] == FORWARD_AUTH:
            passes = self.forward_auth.remembered(scope)
            if isinstance(passes, list) and services.spans is None and not services.settings.access_log:
                # Of the hottest answer there is nothing to tell but that it was given.
                headers = [*passes, (REQUEST_ID_HEADER, request_id.encode())]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                services.metrics.answered(method, FORWARD_AUTH, 200, (time.monotonic_ns() - began_ns) / 1e9)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
        known = begin_request(request_id, address_of(services, scope))
        span = services.spans.begin(scope, method, request_id) if services.spans is not None else None

        async def send_observed(message: Any) -> None:
            if message["type"] in _STARTS:
                seconds = (time.monotonic_ns() - began_ns) / 1e9
                route = scope.get("path_template") or NO_ROUTE
                status = message.get("status", _SWITCHING_PROTOCOLS)
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
                services.metrics.answered(method, route, status, seconds)
                if span is not None:
                    span.answered(route, status, known.get("session_id"))
                    if status == _SWITCHING_PROTOCOLS:
                        # The handshake is what took time; the connection may stay for days.
                        span.end()
                if services.settings.access_log:
                    _log.info(
                        "http.answered", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 3)
                    )
            await send(message)

        try:
            await self._answer(scope, receive, send_observed, passes)
        finally:
            if span is not None:
                span.leave()

    async def _answer(self, scope: Any, receive: Any, send: Any, passes: RawHeaders | Exception | None) -> None:
        if scope["path"] != FORWARD_AUTH:
            await super().__call__(scope, receive, send)
            return
        scope["litestar_app"] = self
        scope["path_template"] = FORWARD_AUTH
        await self.forward_auth.answer(scope, receive, send, passes)


def _request_id(services: Services, scope: Any) -> str:
    """A new id; the caller's own only where the setting says that a proxy has made it, and if nothing is odd about it."""
    if services.settings.trust_ids:
        given = header(scope, REQUEST_ID_HEADER)
        if given is not None and _GOOD_ID.match(given):
            return given
    return next_id("req")
