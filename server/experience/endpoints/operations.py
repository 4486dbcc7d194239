"""Endpoints for other software: public keys and health."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ControllerRouterHandler
from msgspec import UNSET

from interlock.server.experience.calls import wired_services
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.responses import HealthResponse, KeySetResponse
from interlock.server.guard.keys.keyset import JWKS_MAX_AGE_S
from interlock.server.services import Services

_STOPPED: Final = "the log has stopped; restart the server"
_KEYLESS: Final = "the key files can't be used; the server's log says why"
_CACHED: Final = {"cache-control": f"public, max-age={JWKS_MAX_AGE_S}"}
_NOT_WELL: Final = {
    **responses(),
    503: ResponseSpec(
        HealthResponse,
        description="Not healthy, with the cause.",
        generate_examples=False,
    ),
}


@get(
    "/.well-known/jwks.json",
    tags=["standards"],
    summary="The public keys of access tokens",
    response_headers=may_send("Cache-Control"),
    responses=responses(),
)
async def get_key_set(request: Request[Any, Any, Any]) -> Response[KeySetResponse]:
    """Get the JWK Set (RFC 7517). A valid signature does not show that the session is alive: ask the server for that."""
    return Response(KeySetResponse(**wired_services(request).keys.jwks()), headers=_CACHED)


@get("/health/live", tags=["operations"], summary="Should the process be left running?", responses=_NOT_WELL)
async def get_liveness(request: Request[Any, Any, Any]) -> Response[HealthResponse]:
    """200 while the process should keep running; 503 after the log has stopped, which needs a restart."""
    services = wired_services(request)
    return _health(services, _failure(services))


@get("/health/ready", tags=["operations"], summary="Does the server accept work?", responses=_NOT_WELL)
async def get_readiness(request: Request[Any, Any, Any]) -> Response[HealthResponse]:
    """200 while the server accepts work.

    503 after its log has stopped, while its keys can't be used, while a background task fails, or while it drains. Then send
    clients to another server.
    """
    services = wired_services(request)
    return _health(services, _failure(services) or _hindrance(services))


def _failure(services: Services) -> str | None:
    return None if services.sessions.failure is None else _STOPPED


def _hindrance(services: Services) -> str | None:
    if not services.tokens.usable:
        return _KEYLESS
    if services.supervisor.failing:
        return f"background work fails: {', '.join(services.supervisor.failing)}; the server's log says why"
    return "draining" if services.draining else None


def _health(services: Services, trouble: str | None) -> Response[HealthResponse]:
    return Response(
        HealthResponse(trouble or "ok", services.host.warnings or UNSET), status_code=200 if trouble is None else 503
    )


HANDLERS: Final[list[ControllerRouterHandler]] = [get_key_set, get_liveness, get_readiness]
