"""The ASGI application over the services made by :mod:`interlock.server.wiring`."""

from __future__ import annotations

from litestar import Router

from interlock.realm import Realms
from interlock.server.experience.console.handlers import QUERIES, console_router
from interlock.server.experience.endpoints import (
    account,
    auth,
    connect,
    exchange,
    executions,
    oauth,
    operations,
    remote_realms,
    sessions,
)
from interlock.server.experience.endpoints.administration import HANDLERS as ADMIN_HANDLERS
from interlock.server.experience.endpoints.administration.calls import ADMIN_SECURITY
from interlock.server.experience.endpoints.events import read
from interlock.server.experience.endpoints.forward_auth import ForwardAuth
from interlock.server.experience.headers import Completion
from interlock.server.experience.middleware.instrumentation import InstrumentedApp
from interlock.server.experience.middleware.queries import queries_of, refuse_queries
from interlock.server.experience.middleware.requests import JsonRequest
from interlock.server.experience.openapi.config import openapi_config
from interlock.server.experience.openapi.document import complete
from interlock.server.experience.openapi.structs import StructSchemas
from interlock.server.experience.pages import demo, front, login
from interlock.server.experience.pages.documents import template_config
from interlock.server.experience.problems import handle
from interlock.server.services import Services
from interlock.server.settings import Settings


def app_over(services: Services) -> InstrumentedApp:
    """Return the ASGI application over ``services``. The caller has opened them and closes them."""
    app = build_app(services.settings, services.realms)
    app.state.services = services
    app.services = services
    app.forward_auth = ForwardAuth(services)
    return app


def build_app(settings: Settings, realms: Realms | None = None) -> InstrumentedApp:
    """Return the application without services behind its endpoints. Its document describes the intents of ``realms``."""
    structs = StructSchemas()
    app = InstrumentedApp(
        route_handlers=[
            *sessions.HANDLERS,
            *auth.HANDLERS,
            *account.HANDLERS,
            *oauth.HANDLERS,
            *exchange.HANDLERS,
            *executions.HANDLERS,
            *read.HANDLERS,
            *remote_realms.HANDLERS,
            Router(
                "/api/admin",
                tags=["admin"],
                security=ADMIN_SECURITY,
                route_handlers=ADMIN_HANDLERS,
            ),
            *operations.HANDLERS,
            connect.connect,
            *front.HANDLERS,
            *(demo.HANDLERS if settings.demo else ()),
            console_router(),
            *(login.HANDLERS if settings.login_page else ()),
        ],
        exception_handlers={Exception: handle},
        request_class=JsonRequest,
        middleware=[refuse_queries],
        plugins=[structs],
        # The HTTP connection limits bodies before a request reaches the application.
        request_max_body_size=None,
        openapi_config=openapi_config(settings.base_path),
        template_config=template_config(
            settings.base_path, demo=settings.demo, console=bool(settings.console_look or settings.console_act)
        ),
        logging_config=None,
        # Set explicitly: Litestar reads both from the environment, and its debugger would stop the server at any refusal.
        debug=False,
        pdb_on_exception=False,
    )
    complete(app.openapi_schema, structs, realms or Realms())
    app.queries = queries_of(app.openapi_schema) | QUERIES
    app.base_path = settings.base_path
    app.completion = Completion(settings.origins, settings.web_view_origins, settings.base_path)
    return app
