"""Additions to the OpenAPI document that Litestar generates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
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
from interlock.realm import Realms
from interlock.server.experience.openapi.headers import HEADERS, OF_EVERY_ANSWER, OF_STATUS
from interlock.server.experience.openapi.intents import describe_intents
from interlock.server.experience.openapi.structs import StructSchemas
from interlock.server.experience.problems import MEDIA_TYPE, TYPE_PREFIX, responses

FORWARD_AUTH: Final = "/api/forward-auth"
INTENTS: Final = "/api/intents"
_IDENTITY_HEADERS: Final = {
    "Remote-User": ("The account.", "acc_3q2-7wAAQGmJw0m5bW9uZQ"),
    "Remote-Groups": ("The account's groups, separated by commas.", "editors,staff"),
    "Remote-Email": ("Empty: addresses are not proved.", ""),
    "Remote-Name": ("Empty: no names are kept.", ""),
    "X-Session-Id": ("The session.", "0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"),
    "X-Session-State": ("Its state: authenticated or connected.", "connected"),
}
_NO_CONTENT: Final = "204"


def complete(document: OpenAPI, structs: StructSchemas, realms: Realms) -> None:
    """Add to ``document`` the schemas of ``structs``, the intents of ``realms``, headers, and which values are optional."""
    components = document.components
    assert isinstance(components, Components)  # noqa: S101  # ours is one; Litestar would merge several
    schemas: dict[str, Any] = {**(components.schemas or {}), **structs.components()}
    schemas["ProblemType"]["x-enum-varnames"] = [
        urn.removeprefix(TYPE_PREFIX).replace("-", "_").upper() for urn in schemas["ProblemType"]["enum"]
    ]
    intents = describe_intents(schemas, realms)
    components.schemas = schemas
    components.headers = {**HEADERS}
    paths = document.paths = document.paths or {}
    paths[FORWARD_AUTH] = _forward_auth()
    if intents and (submit := paths[INTENTS].post) is not None:
        submit.description = f"{submit.description}\n\n{intents}"
    for operation in _operations(document):
        for parameter in operation.parameters or ():
            if isinstance(parameter, Parameter):
                parameter.schema, _ = _not_null(parameter.schema)
        if isinstance(operation.request_body, RequestBody):
            for media in operation.request_body.content.values():
                media.schema, operation.request_body.required = _not_null(media.schema)
        _complete_responses(operation.responses or {})


def _complete_responses(answers: dict[str, Any]) -> None:
    # Litestar adds headers to one success response only; all of them have these.
    success: dict[str, Any] = next(
        (each.headers for status, each in answers.items() if status < "3" and each.headers), {}
    )
    for status, response in answers.items():
        if status == _NO_CONTENT:
            response.content = None
        own = response.headers or (success if status < "3" else {})
        if status == "401" and "Set-Cookie" in success:
            own = {"Set-Cookie": success["Set-Cookie"]}  # an invalid cookie is deleted
        named = sorted({*own, *OF_STATUS.get(status, ()), *OF_EVERY_ANSWER})
        response.headers = {
            name: Reference(f"#/components/headers/{name}") if name in HEADERS else own[name] for name in named
        }
        for media in (response.content or {}).values():
            for example in (media.examples or {}).values():
                # Litestar's own field, which OpenAPI lacks; its value is the example's key.
                example.id = None


def _not_null(schema: Any) -> tuple[Any, bool]:
    """Return ``schema`` without the null that Litestar adds to optional values, and whether it is required."""
    if not isinstance(schema, Schema) or not schema.one_of:
        return schema, True
    choice = schema.one_of[0]
    if isinstance(choice, Reference):
        return choice, False
    schema.one_of, schema.type = None, choice.type
    return schema, False


def _forward_auth() -> PathItem:
    """Describe the endpoint outside of Litestar's routes."""
    kinds = (CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound, NotAuthenticated)
    answers = {
        "200": OpenAPIResponse(
            description="The request may pass. The headers identify the user; all are present, empty ones too.",
            headers={
                name: OpenAPIHeader(
                    schema=Schema(type=OpenAPIType.STRING), description=text, required=True, example=value
                )
                for name, (text, value) in _IDENTITY_HEADERS.items()
            },
        )
    }
    refusals = responses(403, Overloaded, *kinds)
    del refusals[400]  # it has no parameters and ignores its query
    answers |= {str(status): _problem(spec) for status, spec in refusals.items()}
    return PathItem(
        get=Operation(
            operation_id="forwardAuth",
            tags=["standards"],
            summary="May this request pass, and as whom?",
            description=(
                "For a proxy in front of applications: nginx `auth_request`, Caddy `forward_auth`, Traefik ForwardAuth. It "
                "sends the headers of each request here, and lets the request pass if the response is 200. The credential "
                "is the access token, or a page's cookie, which is valid until a grace after its refresh token was exchanged; "
                "no token is exchanged here. With the cookie, requests from other sites' pages are refused, by `Origin`, "
                "`Sec-Fetch-Site`, `X-Forwarded-Method`, `X-Forwarded-Host` and `X-Forwarded-Proto`. Counts as activity."
            ),
            security=[{"bearer": []}, {"cookie": []}],
            responses={**answers},
        )
    )


def _problem(spec: ResponseSpec) -> OpenAPIResponse:
    """Convert a specification by :func:`responses` for use outside of a handler."""
    examples = {each.id or "": Example(summary=each.summary, value=each.value) for each in spec.examples or ()}
    media = OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Problem"), examples={**examples})
    return OpenAPIResponse(description=spec.description or "", content={MEDIA_TYPE: media})


def _operations(document: OpenAPI) -> Iterator[Operation]:
    for item in (document.paths or {}).values():
        yield from filter(None, (item.get, item.post, item.put, item.delete))
