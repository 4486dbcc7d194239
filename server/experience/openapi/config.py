"""General part of the OpenAPI document."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Server, Tag

from interlock.server.experience.credentials import COOKIE_NAME
from interlock.server.experience.openapi.asyncapi import AsyncApiPlugin


def _operation_id(handler: HTTPRouteHandler, _method: Any, _path: Any) -> str:
    """Derive the operation id from the handler's name, in camel case: ``createSession`` for ``create_session``."""
    first, *others = handler.handler_name.split("_")
    return first + "".join(map(str.capitalize, others))


def openapi_config(base_path: str) -> OpenAPIConfig:
    """Return title, tags and credentials. The paths of the document are below ``base_path``."""
    return OpenAPIConfig(
        title="Interlock",
        version=version("interlock"),
        summary="A session-lifecycle server.",
        description=(
            "Every session is an instance of one declared state machine: created → authenticated → connected → expired. "
            "Intents are executed by the realms of this server: accepted once, one outcome recorded. "
            "Each transition is on disk before it is acknowledged. Errors are RFC 9457 problem details with a stable `type`. "
            "The live connection is `WS /api/connect` (subprotocol `interlock.v1`), which `/schema/asyncapi.json` describes."
        ),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[Server(url=base_path or "/")],
        path="/schema",
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"]), YamlRenderPlugin(), AsyncApiPlugin(base_path)],
        tags=[
            Tag(name="session", description="The caller's own session."),
            Tag(name="auth", description="Accounts and tokens."),
            Tag(name="sessions", description="All sessions of the caller's account."),
            Tag(name="executions", description="Intents and their executions."),
            Tag(name="events", description="What happens, for back ends."),
            Tag(name="admin", description="All sessions and accounts, for administrators."),
            Tag(name="standards", description="For other software."),
            Tag(name="operations", description="For operators."),
        ],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "admin": SecurityScheme(
                    type="http", scheme="bearer", description="A secret made by `interlock admin-token create`."
                ),
                "subscriber": SecurityScheme(
                    type="http", scheme="bearer", description="A secret made by `interlock subscribers create`."
                ),
                "cookie": SecurityScheme(type="apiKey", name=COOKIE_NAME, security_scheme_in="cookie"),
                "client": SecurityScheme(type="http", scheme="basic"),
                "realm": SecurityScheme(
                    type="apiKey",
                    name="webhook-signature",
                    security_scheme_in="header",
                    description="Signed with `webhook-id` and `webhook-timestamp` (Standard Webhooks).",
                ),
            }
        ),
    )
