"""Instrumentation of every request: its id, metrics, span and access log line."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import structlog
from litestar import Litestar

from interlock.server.experience.admission import ARRIVED, note_address, slow_refusal
from interlock.server.experience.credentials import header, note_web_view
from interlock.server.experience.endpoints.forward_auth import CACHED_DECISION, CachedDecision, ForwardAuth
from interlock.server.experience.headers import Completion
from interlock.server.experience.middleware.queries import Queries
from interlock.server.experience.openapi.document import FORWARD_AUTH
from interlock.server.experience.transport.exchange import UPGRADE
from interlock.server.ids import next_id
from interlock.server.services import Services
from interlock.server.telemetry.context import begin_request

_log = structlog.get_logger("interlock.http")

REQUEST_ID_HEADER: Final = b"x-request-id"
NO_ROUTE: Final = "none"
_NO_PATH: Final = "/%2F"
_GOOD_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SWITCHING_PROTOCOLS: Final = 101
_TOLD_TO_WAIT: Final = frozenset({429, 503})
_STARTS: Final = frozenset({"http.response.start", UPGRADE})


class InstrumentedApp(Litestar):
    """The application, instrumented outside of Litestar's routing, so that requests without a route are seen too."""

    services: Services
    """The services of the endpoints. Set before the first request."""

    forward_auth: ForwardAuth
    """The endpoint outside of Litestar's routes. Set before the first request."""

    completion: Completion
    """Completes the headers of every response."""

    queries: Queries
    """The query parameters of each call."""

    base_path: str
    """The setting of this name: routes are below it."""

    def fast_path(self, scope: Any) -> bytes | None:
        """Fast path: answer forward-auth from memory, without a task, a span or a line in the access log.

        Return None if the application must answer.
        """
        if not self.forward_auth.serves(scope):
            return None
        services = self.services
        began_ns = time.monotonic_ns()
        known = scope["state"][CACHED_DECISION] = self.forward_auth.cached_decision(scope)
        if not isinstance(known, CachedDecision) or services.spans is not None or services.settings.access_log:
            return None
        # A request id holds no character that could end a header.
        block = b"%bx-request-id: %b\r\n" % (known.block, _request_id(services, scope).encode())
        services.metrics.answered(scope["method"], FORWARD_AUTH, 200, (time.monotonic_ns() - began_ns) / 1e9)
        return block

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry point."""
        services = self.services
        asks_forward_auth = self.forward_auth.serves(scope)
        scope["path"] = _path_below(self.base_path, scope["path"])
        note_web_view(scope, services.settings.web_view_origins)
        request_id = _request_id(services, scope)
        method = scope["method"]
        if method == "HEAD":
            # GET implies HEAD (RFC 9110, 9.1); the connection omits the content.
            scope["method"] = "GET"
        began_ns = scope["state"][ARRIVED] = time.monotonic_ns()
        known = begin_request(request_id, note_address(services, scope))
        span = services.spans.begin(scope, method, request_id) if services.spans is not None else None

        async def send_instrumented(message: Any) -> None:
            if message["type"] not in _STARTS:
                await send(message)
                return
            status = message.get("status", _SWITCHING_PROTOCOLS)
            if status in _TOLD_TO_WAIT and not asks_forward_auth:
                # Don't delay a proxy: it keeps its client's request open meanwhile.
                await slow_refusal(services, message["headers"], (time.monotonic_ns() - began_ns) / 1e9)
            seconds = (time.monotonic_ns() - began_ns) / 1e9
            route = scope.get("path_template") or NO_ROUTE
            headers = self.completion.complete(scope, status, message.get("headers", ()))
            message["headers"] = [*headers, (REQUEST_ID_HEADER, request_id.encode())]
            # An upgrade may be refused here; the response sent instead is recorded then.
            await send(message)
            services.metrics.answered(method, route, status, seconds)
            if span is not None:
                span.answered(route, status, known.get("session_id"))
            if services.settings.access_log:
                _log.info(
                    "http.answered", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 3)
                )

        try:
            if asks_forward_auth:
                scope["litestar_app"] = self
                scope["path_template"] = FORWARD_AUTH
                await self.forward_auth.answer(scope, send_instrumented)
            else:
                await super().__call__(scope, receive, send_instrumented)
        finally:
            if span is not None:
                span.leave()


def _path_below(base_path: str, path: str) -> str:
    """Return ``path`` as the routes know it, without ``base_path``; a path without a route if it is not below that."""
    if not base_path:
        return path
    if path == base_path:
        return "/"
    return path.removeprefix(base_path) if path.startswith(f"{base_path}/") else _NO_PATH


def _request_id(services: Services, scope: Any) -> str:
    """Return a new id, or the caller's if the setting says that a proxy sets it and it is well formed."""
    if services.settings.trust_request_ids:
        given = header(scope, REQUEST_ID_HEADER)
        if given is not None and _GOOD_ID.match(given):
            return given
    return next_id("req")
