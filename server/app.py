"""The ASGI application over the services that :mod:`interlock.server.opening` puts together."""

from __future__ import annotations

from interlock.server.experience import (
    admin_api,
    admin_log_api,
    auth_api,
    connect_api,
    exchange_api,
    oauth_api,
    operations_api,
    sessions_api,
)
from interlock.server.experience.forward_auth_api import ForwardAuth
from interlock.server.experience.headers import Completion
from interlock.server.experience.observed import ObservedApp
from interlock.server.experience.openapi import complete
from interlock.server.experience.openapi_config import openapi_config
from interlock.server.experience.problems import handle
from interlock.server.experience.queries import queries_of, refuse_queries
from interlock.server.experience.requests import JsonRequest
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
    app = ObservedApp(
        route_handlers=[
            *sessions_api.HANDLERS,
            *auth_api.HANDLERS,
            *oauth_api.HANDLERS,
            *exchange_api.HANDLERS,
            *admin_api.HANDLERS,
            *admin_log_api.HANDLERS,
            *operations_api.HANDLERS,
            connect_api.connect,
        ],
        exception_handlers={Exception: handle},
        request_class=JsonRequest,
        middleware=[refuse_queries],
        # The connection bounds bodies before the application hears of a request.
        request_max_body_size=None,
        openapi_config=openapi_config(),
        logging_config=None,
        # Said, because Litestar would take both from the environment, and its debugger stops the server at any refusal.
        debug=False,
        pdb_on_exception=False,
    )
    complete(app.openapi_schema)
    app.queries = queries_of(app.openapi_schema)
    app.completion = Completion(settings.origins)
    return app
