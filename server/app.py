"""The ASGI application over the services that :mod:`server.opening` puts together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from litestar import Litestar

from server.experience import (
    admin_api,
    admin_log_api,
    auth_api,
    exchange_api,
    oauth_api,
    operations_api,
    sessions_api,
)
from server.experience.forward_auth_api import ForwardAuth
from server.experience.headers import hook
from server.experience.observed import ObservedApp
from server.experience.openapi import complete
from server.experience.openapi_config import openapi_config
from server.experience.problems import handle
from server.experience.requests import JsonRequest
from server.experience.socket import connect
from server.experience.traffic import slow_refusals
from server.opening import open_services
from server.services import Services
from server.settings import Settings

_BODY_LIMIT: Final = 64 * 1024


def create_app(settings: Settings) -> Litestar:
    """The ASGI application for any server that speaks lifespan.

    Its lifespan opens the log, puts right what a crash left, and closes everything again.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            _give(app, services)
            yield

    return _build(settings, [lifespan])


def app_over(services: Services) -> Litestar:
    """The ASGI application over ``services`` that the caller has opened and will close."""
    return _give(_build(services.settings, []), services)


def _give(app: Litestar, services: Services) -> Litestar:
    """Let the endpoints of ``app`` reach ``services``, and what watches every request without a look-up."""
    app.state.services = services
    app.services = services  # type: ignore[attr-defined]  # it is an ObservedApp
    app.forward_auth = ForwardAuth(services)  # type: ignore[attr-defined]  # see above
    return app


def _build(settings: Settings, lifespan: list[Callable[[Litestar], AbstractAsyncContextManager[None]]]) -> Litestar:
    app = ObservedApp(
        route_handlers=[
            *sessions_api.HANDLERS,
            *auth_api.HANDLERS,
            *oauth_api.HANDLERS,
            *exchange_api.HANDLERS,
            *admin_api.HANDLERS,
            *admin_log_api.HANDLERS,
            *operations_api.HANDLERS,
            connect,
        ],
        lifespan=lifespan,
        exception_handlers={Exception: handle},
        before_send=[slow_refusals, hook(settings.origins)],
        request_class=JsonRequest,
        request_max_body_size=_BODY_LIMIT,
        openapi_config=openapi_config(),
        logging_config=None,
        # Said, because Litestar would take both from the environment, and its debugger stops the server at any refusal.
        debug=False,
        pdb_on_exception=False,
    )
    complete(app.openapi_schema)
    return app
