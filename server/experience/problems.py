"""Errors as RFC 9457 problem details, each of a kind of :mod:`interlock.server.experience.problem_kinds`.

``type`` is a stable URN; its last part is the anchor in docs/reference/problems. ``detail`` never quotes a value from the
request, so it can't leak a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import UNSET, Meta, UnsetType

from interlock.machine import errors
from interlock.server.experience.headers import RawHeaders, allowed
from interlock.server.experience.litestar_internals import parameter_of
from interlock.server.experience.problem_kinds import (
    BY_STATUS,
    KINDS,
    UNKNOWN_SESSION,
    ProblemKind,
    Recovery,
    problem_kinds,
)
from interlock.server.experience.vocabulary import EndReason, Event, State, enum_of

_log = structlog.get_logger("interlock.http")

MEDIA_TYPE: Final = "application/problem+json"
_NOT_OF_ENUM: Final = "Invalid enum value"
_UNKNOWN_FIELD: Final = "Object contains unknown field"
_MISSING: Final = re.compile("Object missing required field `(.+)`")
_DATA: Final = "data"
"""The parameter of every handler that takes a body."""
_BODY: Final = "body"
PARAMETERS: Final = "parameters"
"""The field of an intent that holds its parameters."""
TYPE_PREFIX: Final = "urn:interlock:problem:"


_LOOKED_AGAIN_S: Final = 1
"""The server notices repaired keys and secrets within a second."""

if TYPE_CHECKING:
    ProblemType: TypeAlias = str
else:
    ProblemType = enum_of(
        "ProblemType",
        (TYPE_PREFIX + kind.name for kind in problem_kinds()),
        "A kind of problem. It never changes; `title` and `detail` may be reworded.",
    )


OAuthError: TypeAlias = Literal["invalid_request", "invalid_client", "server_error", "temporarily_unavailable"]
"""Error codes of RFC 6749, 5.2 and 4.1.2.1."""


class InvalidField(msgspec.Struct, frozen=True):
    """A field or parameter that is wrong, and how."""

    field: Annotated[str, Meta(examples=["email"])]
    message: Annotated[str, Meta(examples=["Expected `str`, got `int`"])]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details. ``reason``, ``event``, ``state`` and ``guard`` come with the problems they belong to.

    ``error`` and ``error_description`` (RFC 6749, 5.2) come with those of introspection and revocation.
    """

    type: ProblemType
    title: Annotated[str, Meta(examples=["The access token is no longer current"])]
    status: Annotated[int, Meta(examples=[401])]
    detail: Annotated[str, Meta(examples=["the access token has expired"])]
    recovery: Recovery
    advice: Annotated[str, Meta(examples=["POST /api/auth/refresh, then retry once."])]
    reason: EndReason | UnsetType = UNSET
    event: Event | UnsetType = UNSET
    state: State | UnsetType | None = UNSET
    guard: str | UnsetType | None = UNSET
    errors: list[InvalidField] | UnsetType = UNSET
    error: OAuthError | UnsetType = UNSET
    error_description: str | UnsetType = UNSET


class RequestRefused(errors.InterlockError):
    """A request that is refused with an HTTP ``status`` of :mod:`interlock.server.experience.problem_kinds`."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


def problem_for(error: Exception) -> tuple[Problem, dict[str, str]]:
    """Return the problem that tells the client of ``error``, and its headers."""
    kind = _kind(error)
    headers: dict[str, str] = {}
    detail = str(error) if isinstance(error, errors.InterlockError) else kind.title
    match error:
        case RequestRefused(status=426):
            # RFC 9110, 15.5.22 and 7.8; RFC 6455, 4.4.
            headers |= {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        case errors.SurfaceError():
            detail = "nothing was acknowledged"
        case errors.SettingsError():
            detail = kind.title  # the message names files, for the operator
        case ValidationException():
            detail = error.detail.partition(" for ")[0]
        case MethodNotAllowedException(headers={"allow": methods} | {"Allow": methods}):  # Litestar uses both spellings
            headers["allow"] = allowed(methods.split(", ")).decode()
    if kind.status == 401:  # noqa: PLR2004  # RFC 9110, 15.5.2: a 401 needs a challenge
        headers["www-authenticate"] = _challenge(error)
    if (seconds := _retry_after_s(error)) is not None:
        headers["retry-after"] = str(seconds)
    return _problem(kind, detail, **_members(error)), headers


def _members(error: Exception) -> dict[str, Any]:
    """Return the members that the problem of ``error`` has beside those of every problem."""
    match error:
        case errors.TransitionRefused():
            return {"event": error.event, "state": error.state, "guard": error.guard}
        case errors.SessionEnded():
            return {"reason": error.reason}
        case errors.IntentIdRefused():
            return {"errors": [InvalidField("id", str(error))]}
        case errors.ParametersRefused():
            field = f"{PARAMETERS}.{error.field}" if error.field else PARAMETERS
            return {"errors": [InvalidField(field, error.problem)]}
    return {}


def _retry_after_s(error: Exception) -> int | None:
    match error:
        case (
            errors.Overloaded()
            | errors.RateLimited()
            | errors.TooManyExecutions()
            | errors.IdentityProviderUnavailable()
        ):
            return error.retry_after_s
        case errors.SettingsError():
            return _LOOKED_AGAIN_S
    return None


def _challenge(error: Exception) -> str:
    match error:
        case errors.ClientAuthenticationFailed():
            return 'Basic realm="interlock", charset="UTF-8"'
        case errors.CredentialMissing():
            return 'Bearer realm="interlock"'
        case errors.LoginTooOld():
            return f'Bearer realm="interlock", error="insufficient_user_authentication", max_age={error.max_age_s}'
    return 'Bearer realm="interlock", error="invalid_token"'


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Litestar's exception handler for all exceptions."""
    problem, headers = logged_problem(request, error)
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def logged_problem(request: Request[Any, Any, Any], error: Exception) -> tuple[Problem, dict[str, str]]:
    """Return :func:`problem_for` of ``error``, and log it."""
    problem, headers = problem_for(error)
    if isinstance(error, ValidationException):
        rows: Any = error.extra or ()
        problem = msgspec.structs.replace(problem, errors=[_invalid_field(row, request) for row in rows])
    tell_problem(request.scope, problem, error)
    return problem, headers


async def send_problem(scope: Any, send: Any, error: Exception, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send the problem of ``error`` over plain ASGI, with ``more`` headers."""
    problem, headers = problem_for(error)
    tell_problem(scope, problem, error)
    raw_headers, body = problem_content(problem)
    raw_headers += [*more, *((name.encode(), value.encode()) for name, value in headers.items())]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def problem_content(problem: Problem) -> tuple[RawHeaders, bytes]:
    """Return the content headers and the content of a response with ``problem``."""
    body = msgspec.json.encode(problem)
    return [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))], body


def tell_problem(scope: Any, problem: Problem, error: Exception) -> None:
    """Log and count a problem. The URL is not logged, because a client may have put a secret there."""
    name = problem.type.removeprefix(TYPE_PREFIX)
    scope["litestar_app"].state.services.metrics.problem(name)
    about = {
        "method": scope.get("method", "GET"),
        "route": scope.get("path_template", "none"),
        "status": problem.status,
        "problem": name,
    }
    if problem.status < 500 or isinstance(error, errors.Overloaded):  # noqa: PLR2004  # server errors
        _log.info("request.refused", **about)
        return
    _log.error(
        "http.failed",
        **about,
        error=type(error).__name__,
        because=str(error) if isinstance(error, errors.InterlockError) else None,
        exc_info=None if isinstance(error, errors.InterlockError) else error,
    )


def responses(*kinds: type[Exception] | int) -> dict[int, ResponseSpec]:
    """Return the OpenAPI specification of an endpoint's errors: ``kinds``, and those of every endpoint.

    The latter include an unknown query parameter.
    """
    always = (400, 500, errors.SurfaceError, errors.SettingsError)
    chosen = [_kind_named(kind) for kind in (*kinds, *always)]
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in dict.fromkeys(chosen):
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: ResponseSpec(
            Problem,
            description=" ".join(f"{kind.title} (`{kind.name}`): {kind.advice}" for kind in kinds_of_it),
            media_type=MEDIA_TYPE,
            generate_examples=False,
            examples=[_example(kind) for kind in kinds_of_it],
        )
        for status, kinds_of_it in by_status.items()
    }


def _kind_named(kind: type[Exception] | int) -> ProblemKind:
    if kind is errors.SessionNotFound:
        return UNKNOWN_SESSION
    return KINDS[kind] if isinstance(kind, type) else BY_STATUS[kind]


def _example(kind: ProblemKind) -> Example:
    return Example(id=kind.name, summary=kind.title, value=msgspec.to_builtins(_problem(kind, kind.title)))


def _problem(kind: ProblemKind, detail: str, **extra: Any) -> Problem:
    return Problem(TYPE_PREFIX + kind.name, kind.title, kind.status, detail, kind.recovery, kind.advice, **extra)


def _kind(error: Exception) -> ProblemKind:
    if isinstance(error, RequestRefused):
        return BY_STATUS[error.status]
    if isinstance(error, errors.SessionNotFound):
        return UNKNOWN_SESSION
    for base in type(error).__mro__:
        if base in KINDS:
            return KINDS[base]
    if isinstance(error, HTTPException):
        return BY_STATUS.get(error.status_code, BY_STATUS[500 if error.status_code >= 500 else 400])  # noqa: PLR2004  # the two families
    return BY_STATUS[500]


def _invalid_field(row: dict[str, str], request: Request[Any, Any, Any]) -> InvalidField:
    """Return the field in ``row``, Litestar's account of an error, as the client calls it, and what is wrong with it.

    msgspec quotes the value that is not of an enum, and the name of an unknown field. The client chose both, and they may be a
    misplaced secret.
    """
    key, message = row["key"], row["message"]
    if missing := _MISSING.match(message):
        return InvalidField(missing[1], "is missing")
    if message.startswith(_UNKNOWN_FIELD):
        return InvalidField(_BODY, "contains an unknown field")
    if key == _DATA:
        return InvalidField(_BODY, "is missing" if message == repr(_DATA) else message)
    name, values = parameter_of(request, key)
    return InvalidField(name, f"Expected one of {', '.join(values)}" if message.startswith(_NOT_OF_ENUM) else message)
