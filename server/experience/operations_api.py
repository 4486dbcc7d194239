"""Endpoints for other software: public keys and health."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from server.experience.answers import HealthAnswer
from server.experience.calls import services_of


@get("/.well-known/jwks.json", tags=["standards"], summary="The public keys of access tokens", cache_control=None)
async def show_keys(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """A JWK Set (RFC 7517). Whoever only checks signatures still has to ask here whether the session lives."""
    return Response(services_of(request).keys.jwks(), headers={"cache-control": "public, max-age=300"})


@get("/health/live", tags=["operations"], summary="Is the process there?")
async def live() -> HealthAnswer:
    """200 as long as the process answers; restart it when it does not."""
    return HealthAnswer("ok")


@get("/health/ready", tags=["operations"], summary="Does the server take work?")
async def ready(request: Request[Any, Any, Any]) -> Response[HealthAnswer]:
    """200 while the server takes work; 503 once its log has stopped or while it drains: send clients elsewhere."""
    services = services_of(request)
    if services.log.failure is not None:
        return Response(HealthAnswer("the log has stopped; restart the server"), status_code=503)
    if services.draining:
        return Response(HealthAnswer("draining"), status_code=503)
    return Response(HealthAnswer("ok"))


HANDLERS: Final[list[ControllerRouterHandler]] = [show_keys, live, ready]
