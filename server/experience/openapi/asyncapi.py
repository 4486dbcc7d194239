"""The AsyncAPI document of the WebSocket, made from the types of its messages."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any, Final, get_args

import msgspec
from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from interlock.machine.session.messages import (
    SUBPROTOCOL,
    AcceptedMessage,
    CancelRequest,
    ClientMessage,
    Gap,
    OutcomeMessage,
    PingRequest,
    Pong,
    Refreshed,
    RefreshRequest,
    Refused,
    Resumed,
    ResumeRequest,
    ServerMessage,
    StreamMessage,
    SubmitRequest,
)
from interlock.server.experience.problems import Problem

MEDIA_TYPE: Final = "application/vnd.aai.asyncapi+json;version=3.0.0"

_CHANNEL: Final = "connect"
_SCHEMAS: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": _SCHEMAS.format(name=Problem.__name__)}
_PROTOCOL: Final = "sec-websocket-protocol"
_ANSWERS: Final[dict[type[msgspec.Struct], tuple[type[msgspec.Struct], ...]]] = {
    RefreshRequest: (Refreshed,),
    PingRequest: (Pong,),
    SubmitRequest: (AcceptedMessage, Refused),
    CancelRequest: (OutcomeMessage, Refused),
    ResumeRequest: (Resumed, Gap),
}
"""The messages that answer each message of the client."""


class AsyncApiPlugin(OpenAPIRenderPlugin):
    """Answers ``/schema/asyncapi.json``, beside the OpenAPI document."""

    def __init__(self, base_path: str) -> None:
        super().__init__(path="/asyncapi.json", media_type=MEDIA_TYPE)  # type: ignore[arg-type]  # it takes any text
        self._content = msgspec.json.encode(asyncapi(base_path))

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # the interface
        """Return the document as JSON."""
        return self._content


def asyncapi(base_path: str) -> dict[str, Any]:
    """Return the document, in version 3.0 of the format. It describes the server, whose paths are below ``base_path``."""
    from_client, from_server = get_args(ClientMessage), get_args(ServerMessage)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Interlock",
            "version": version("interlock"),
            "description": (
                f"The WebSocket of a session, subprotocol `{SUBPROTOCOL}`. Each message is a JSON object in a text frame. "
                "`hello` is the first. The HTTP calls are in the OpenAPI document, `/schema/openapi.json`."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            _CHANNEL: {
                "address": f"{base_path}/api/connect",
                "title": "The connection",
                "messages": {
                    _tag(each): {"$ref": f"#/components/messages/{_tag(each)}"} for each in (*from_client, *from_server)
                },
                "bindings": {"ws": {"method": "GET", "headers": _handshake_headers(), "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            **{f"receive{_tag(each).capitalize()}": _received(each) for each in from_client},
            **{f"send{_tag(each).capitalize()}": _operation("send", each) for each in from_server},
        },
        "components": {
            "messages": {_tag(each): _message(each) for each in (*from_client, *from_server)},
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "ticket": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": _PROTOCOL,
                    "description": f"For browsers: `{SUBPROTOCOL}, ticket.<ticket>`, see `POST /api/session/ticket`.",
                },
            },
        },
    }


def _tag(message: type[msgspec.Struct]) -> str:
    return str(message.__struct_config__.tag)


def _message(message: type[msgspec.Struct]) -> dict[str, Any]:
    title, _, more = inspect.cleandoc(message.__doc__ or "").partition("\n\n")
    described = {"name": _tag(message), "title": _tag(message), "summary": _prose(title)}
    if more:
        described["description"] = _prose(more)
    return {**described, "payload": {"$ref": _SCHEMAS.format(name=message.__name__)}}


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _operation(action: str, *messages: type[msgspec.Struct]) -> dict[str, Any]:
    operation = {"action": action, **_of_channel(*messages)}
    if action == "receive":
        operation["security"] = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("bearer", "ticket")]
    return operation


def _received(message: type[msgspec.Struct]) -> dict[str, Any]:
    return {**_operation("receive", message), "reply": _of_channel(*_ANSWERS[message])}


def _of_channel(*messages: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "channel": {"$ref": f"#/channels/{_CHANNEL}"},
        "messages": [{"$ref": f"#/channels/{_CHANNEL}/messages/{_tag(each)}"} for each in messages],
    }


def _handshake_headers() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "authorization": {"type": "string", "description": "`Bearer <access token>`, for programs."},
            _PROTOCOL: {"type": "string", "description": f"`{SUBPROTOCOL}`; for browsers with a ticket."},
        },
    }


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(
        [*get_args(ClientMessage), *get_args(ServerMessage), Problem], ref_template=_SCHEMAS
    )
    schemas[Refused.__name__]["properties"]["problem"] = _PROBLEM
    for message in get_args(StreamMessage):
        # The stream gives every message its offset.
        schema = schemas[message.__name__]
        schema["properties"]["offset"] = {"type": "integer", "minimum": 1}
        schema["required"].append("offset")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = _prose(schema["description"])
    return schemas
