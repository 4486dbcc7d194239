"""The ASGI application over the services that :mod:`interlock.server.wiring` puts together."""

from __future__ import annotations

from litestar import Router

from interlock.server.experience.endpoints import (
    admin,
    admin_accounts,
    admin_log,
    auth,
    connect,
    exchange,
    oauth,
    operations,
    sessions,
)
from interlock.server.experience.endpoints.admin_calls import ADMIN_SECURITY
from interlock.server.experience.endpoints.forward_auth import ForwardAuth
from interlock.server.experience.headers import Completion
from interlock.server.experience.middleware.observed import ObservedApp
from interlock.server.experience.middleware.queries import queries_of, refuse_queries
from interlock.server.experience.middleware.requests import JsonRequest
from interlock.server.experience.openapi.config import openapi_config
from interlock.server.experience.openapi.document import complete
from interlock.server.experience.openapi.structs import StructSchemas
from interlock.server.experience.problems import handle
from interlock.server.services import Services
from interlock.server.settings import Settings


def app_over(services: Services) -> ObservedApp:
    """The ASGI application over ``services`` that the caller has opened and will close."""
    app = build_app(services.settings)
    app.state.services = services
    app.services = services
    app.forward_auth = ForwardAuth(services)
    return app


def build_app(settings: Settings) -> ObservedApp:
    """The application without anything behind its endpoints."""
    structs = StructSchemas()
    app = ObservedApp(
        route_handlers=[
            *sessions.HANDLERS,
            *auth.HANDLERS,
            *oauth.HANDLERS,
            *exchange.HANDLERS,
            Router(
                "/api/admin",
                tags=["admin"],
                security=ADMIN_SECURITY,
                route_handlers=[*admin.HANDLERS, *admin_accounts.HANDLERS, *admin_log.HANDLERS],
            ),
            *operations.HANDLERS,
            connect.connect,
        ],
        exception_handlers={Exception: handle},
        request_class=JsonRequest,
        middleware=[refuse_queries],
        plugins=[structs],
        # The connection bounds bodies before the application hears of a request.
        request_max_body_size=None,
        openapi_config=openapi_config(),
        logging_config=None,
        # Said, because Litestar would take both from the environment, and its debugger stops the server at any refusal.
        debug=False,
        pdb_on_exception=False,
    )
    complete(app.openapi_schema, structs)
    app.queries = queries_of(app.openapi_schema)
    app.completion = Completion(settings.origins)
    return app
