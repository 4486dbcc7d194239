"""What the OpenAPI document says beyond what Litestar reads from the handlers: examples, and what bodies may be left out.

One example for every body, in and out, put together from the examples that stand beside the fields.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    PathItem,
    Reference,
    RequestBody,
    Schema,
)

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    NotAuthenticated,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
)
from interlock.server.experience.problems import MEDIA_TYPE, responses
from interlock.server.guard.groups import PATTERN

FORWARD_AUTH: Final = "/api/forward-auth"
_IDENTITY_HEADERS: Final = {
    "Remote-User": ("The account.", "acc_3q2-7wAAQGmJw0m5bW9uZQ"),
    "Remote-Groups": ("The account's groups, separated by commas.", "editors,staff"),
    "Remote-Email": ("Empty: addresses are not proved.", ""),
    "Remote-Name": ("Empty: no names are kept.", ""),
    "X-Session-Id": ("The session.", "0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"),
    "X-Session-State": ("Its state: authenticated or connected.", "connected"),
}
_NO_CONTENT: Final = "204"
_DIGEST: Final = "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"


class _Null(enum.Enum):
    """JSON's null inside an example: Litestar leaves None out of what it writes, and writes an enum's value."""

    NULL = None


_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "SessionView": {
        "session_id": "0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0",
        "state": "connected",
        "version": 3,
        "subject": "acc_3q2-7wAAQGmJw0m5bW9uZQ",
        "connections": 1,
        "created_at": "2026-01-23T09:30:00.000Z",
        "idle_expires_at": "2026-01-23T10:00:02.500Z",
        "expires_at": "2026-01-23T21:30:02.500Z",
        "reason": _Null.NULL,
    },
    "TransitionView": {
        "position": 41,
        "kind": "session",
        "instance_id": "0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0",
        "version": 3,
        "event": "connect",
        "source": "authenticated",
        "target": "connected",
        "at": "2026-01-23T09:30:05.000Z",
        "actor": "acc_3q2-7wAAQGmJw0m5bW9uZQ",
        "data": {"connection_id": "con_RSlSMZTaSVS48rx2XknO9g", "node": "node-1"},
        "digest": _DIGEST,
    },
    "Receipt": {"position": 41, "digest": _DIGEST},
}
"""Examples of what the pure machine shows, which knows nothing of OpenAPI."""


def complete(document: OpenAPI) -> None:
    """Add to ``document`` what is missing."""
    schemas: dict[str, Any] = document.components.schemas if document.components and document.components.schemas else {}
    # Litestar drops what is said of a list's items.
    schemas["Groups"].properties["groups"].items.pattern = PATTERN
    for operation in _operations(document):
        # Any call may be refused for a query parameter that it does not take.
        operation.responses = {"400": _problem(responses(400)[400]), **(operation.responses or {})}
        if isinstance(operation.request_body, RequestBody):
            for media in operation.request_body.content.values():
                (name,) = _names(media.schema)
                schemas[name].additional_properties = False
                # The handlers take a missing body, to ask for a credential first. Where a field has to be there, so has it.
                operation.request_body.required = bool(schemas[name].required)
                if schemas[name].required:
                    media.schema = Reference(ref=f"#/components/schemas/{name}")
                _illustrate(media, schemas)
        for status, response in (operation.responses or {}).items():
            if isinstance(response, OpenAPIResponse):
                if status == _NO_CONTENT:
                    response.content = None
                for media in (response.content or {}).values():
                    _illustrate(media, schemas)
                for header in (response.headers or {}).values():
                    _complete_header(header)
    (document.paths or {})[FORWARD_AUTH] = _forward_auth()


def _forward_auth() -> PathItem:
    """The one endpoint that is none of Litestar's."""
    kinds = (CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound, NotAuthenticated)
    answers = {
        "200": OpenAPIResponse(
            description="The request may pass, as whom the headers say. All are there, also the empty ones.",
            headers={
                name: OpenAPIHeader(
                    schema=Schema(type=OpenAPIType.STRING), description=text, required=True, example=value
                )
                for name, (text, value) in _IDENTITY_HEADERS.items()
            },
        )
    }
    answers |= {str(status): _problem(spec) for status, spec in responses(403, Overloaded, *kinds).items()}
    return PathItem(
        get=Operation(
            operation_id="ForwardAuth",
            tags=["standards"],
            summary="May this request pass, and as whom?",
            description=(
                "For a proxy in front of applications: nginx `auth_request`, Caddy `forward_auth`, Traefik ForwardAuth. It "
                "sends the headers of each request here, and lets the request pass when the answer is 200. The credential "
                "is the access token, or a page's cookie, until a grace after its refresh token was exchanged; nothing is "
                "exchanged here. With the cookie, what another site's page asks for is refused, by `Origin`, `Sec-Fetch-Site`, "
                "`X-Forwarded-Method`, `X-Forwarded-Host` and `X-Forwarded-Proto`. It counts as activity."
            ),
            security=[{"bearer": []}, {"cookie": []}],
            responses={**answers},
        )
    )


def _problem(spec: ResponseSpec) -> OpenAPIResponse:
    """What :func:`responses` says of a status, outside of a handler."""
    examples = {each.id or "": Example(summary=each.summary, value=each.value) for each in spec.examples or ()}
    media = OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Problem"), examples={**examples})
    return OpenAPIResponse(description=spec.description or "", content={MEDIA_TYPE: media})


def _operations(document: OpenAPI) -> Iterator[Operation]:
    for item in (document.paths or {}).values():
        yield from filter(None, (item.get, item.post, item.put, item.delete))


def _names(schema: Any) -> list[str]:
    """The components that ``schema`` is, or may be."""
    if isinstance(schema, Reference):
        return [schema.ref.rpartition("/")[2]]
    return [name for each in schema.one_of or () for name in _names(each)]


def _illustrate(media: OpenAPIMediaType, schemas: dict[str, Any]) -> None:
    schema = media.schema
    for example in (media.examples or {}).values():
        # Litestar's own field, which OpenAPI does not have: its value is the example's key.
        example.id = None  # type: ignore[union-attr]  # none of ours is a reference
    if media.examples or schema is None:
        return
    names = _names(schema.items if isinstance(schema, Schema) and schema.items else schema)
    if names:
        value = _EXAMPLES.get(names[0]) or _from_fields(schemas[names[0]])
        several = isinstance(schema, Schema) and schema.items is not None
        media.examples = {"example": Example(value=[value] if several else value)}


def _complete_header(header: Any) -> None:
    """Say what the one header of ours looks like: Litestar can't."""
    if isinstance(header, OpenAPIHeader) and header.schema is None:
        header.schema = Schema(type=OpenAPIType.STRING, pattern=r"^[1-9][0-9]*\.[0-9a-f]{64}$")
        header.example = f"41.{_DIGEST}"


def _from_fields(schema: Schema) -> dict[str, Any]:
    """An example of each field that has one, or is itself a component that has."""
    example = {}
    for name, field in (schema.properties or {}).items():
        if isinstance(field, Schema) and field.examples:
            example[name] = field.examples[0]
        for component in _names(field):
            example[name] = _EXAMPLES[component]
    return example
