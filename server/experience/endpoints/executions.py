"""Endpoints of intents and their executions: submit an intent, get, list and cancel the account's executions."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.intents import INTENT_ID_PATTERN, MAX_INTENT_ID_CHARACTERS
from interlock.machine.errors import (
    IntentReused,
    IntentUnknown,
    NotAuthenticated,
    Overloaded,
    ParametersRefused,
    RateLimited,
    RoleMissing,
    TooManyExecutions,
)
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session
from interlock.server.experience.admission import admit_account
from interlock.server.experience.calls import (
    CREDENTIALS,
    SECURITY,
    After,
    format_cursor,
    page,
    parse_cursor,
    services_of,
)
from interlock.server.experience.credentials import caller
from interlock.server.experience.guards import session_holder
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.responses import (
    ExecutionResponse,
    ExecutionView,
    execution_response,
    execution_view,
)
from interlock.server.runtime.executions.executions import Cursor, Execution
from interlock.server.services import Services

_MAX_PAGE: Final = 100

Limit = Annotated[int, QueryParameter(ge=1, le=_MAX_PAGE, description="Maximum number of items.")]


class IntentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An intent: its name, its parameters, and the id under which it is executed once."""

    id: Annotated[
        str,
        Meta(
            description=(
                "Your own id for this intent, new in your account, such as a UUID, without `/` and control characters. The"
                " same id with the same name and parameters is the same execution."
            ),
            examples=["2f1c3f0e-8d55-4c5c-9b0a-0a3d6c1f9d11"],
            # The runtime checks it, and refuses it with a sentence.
            extra_json_schema={
                "minLength": 1,
                "maxLength": MAX_INTENT_ID_CHARACTERS,
                "pattern": rf"^{INTENT_ID_PATTERN}$(?!\n)",
            },
        ),
    ]
    name: Annotated[
        str, Meta(max_length=256, description="The intent's name, which a realm declares.", examples=["notes.create"])
    ]
    parameters: Annotated[
        msgspec.Raw,
        Meta(
            description="What the realm declares for the intent.",
            examples=[{"text": "hello"}],
            extra_json_schema={"type": "object", "additionalProperties": True},
        ),
    ]


@post(
    "/api/intents",
    status_code=202,
    tags=["executions"],
    summary="Submit an intent",
    response_headers=may_send(RECEIPT_HEADER),
    responses={
        200: ResponseSpec(ExecutionResponse, description="A repeat: the recorded execution.", generate_examples=False),
        **responses(
            400,
            413,
            415,
            *CREDENTIALS,
            NotAuthenticated,
            IntentUnknown,
            ParametersRefused,
            RoleMissing,
            IntentReused,
            TooManyExecutions,
            RateLimited,
            Overloaded,
        ),
    },
    security=SECURITY,
    guards=[session_holder],
)
async def submit_intent(request: Request[Any, Any, Any], data: JSONBody[IntentRequest]) -> Response[ExecutionResponse]:
    """Submit an intent. It is recorded as an execution, which then runs; get the execution for its outcome (202).

    The same `id`, `name` and `parameters` again are the same execution, while it runs and after its end: nothing is recorded,
    and the response is the execution as it is now (200). So repeat a request whose response was lost.
    """
    services = services_of(request)
    session = _of_account(request.user)
    admit_account(services, request.scope, "intent", session.subject or "")
    accepted = await services.executions.accept(
        session, authority_of(session), data.id, data.name, bytes(data.parameters)
    )
    if accepted.repeated:
        return await _shown(services, accepted.execution)
    answer = execution_response(accepted.execution, None, accepted.receipt)
    return Response(answer, status_code=202, headers=receipt_header(accepted.receipt))


@get(
    "/api/executions",
    tags=["executions"],
    summary="All my executions",
    response_headers=may_send("Link"),
    responses=responses(400, *CREDENTIALS, NotAuthenticated),
    security=SECURITY,
)
async def list_executions(
    request: Request[Any, Any, Any], after: After = None, limit: Limit = _MAX_PAGE
) -> Response[list[ExecutionView]]:
    """List the executions of the caller's account, newest first, also those of its ended sessions.

    If more may follow, there is a ``Link: rel="next"`` header (RFC 8288).
    """
    services = services_of(request)
    session = _of_account(await caller(services, request.scope))
    found = await services.executions.page(session, parse_cursor(after), limit)
    return page("/api/executions", found, limit, execution_view, lambda last: {"after": format_cursor(Cursor.of(last))})


@get(
    "/api/executions/{execution_id:str}",
    tags=["executions"],
    summary="One of my executions",
    responses=responses(400, *CREDENTIALS, NotAuthenticated, 404),
    security=SECURITY,
)
async def get_execution(request: Request[Any, Any, Any], execution_id: FromPath[str]) -> Response[ExecutionResponse]:
    """Get an execution of the caller's account, with its result or error once it has ended. Another account's is not found.

    `receipt` is that of the execution's last record.
    """
    services = services_of(request)
    session = _of_account(await caller(services, request.scope))
    return await _shown(services, await services.executions.owned(session, execution_id))


@delete(
    "/api/executions/{execution_id:str}",
    status_code=200,
    tags=["executions"],
    summary="Cancel one of my executions",
    responses={
        202: ResponseSpec(
            ExecutionResponse, description="Not ended yet; it ends without another call.", generate_examples=False
        ),
        **responses(400, *CREDENTIALS, NotAuthenticated, 404, Overloaded),
    },
    security=SECURITY,
)
async def cancel_execution(request: Request[Any, Any, Any], execution_id: FromPath[str]) -> Response[ExecutionResponse]:
    """Cancel an execution of the caller's account. The response comes when it has ended (200), and `state` says how.

    Running code has 5 seconds to stop; after that the execution is `cancelled` whatever the code does. An execution that ends
    by itself first, or had ended, keeps its outcome. If the realm's store can't be asked whether the result is committed,
    the execution is returned as it is (202).
    """
    services = services_of(request)
    session = _of_account(await caller(services, request.scope))
    execution = await services.runner.cancel(session, authority_of(session), execution_id)
    return await _shown(services, execution, status=200 if execution.state in EXECUTION_MACHINE.final else 202)


def _of_account(session: Session) -> Session:
    """Return ``session``, which must not be anonymous.

    Raises:
        NotAuthenticated: it is. Executions belong to accounts.
    """
    if session.subject is None:
        raise NotAuthenticated("log in first: an anonymous session has no executions")
    return session


async def _shown(services: Services, execution: Execution, *, status: int = 200) -> Response[ExecutionResponse]:
    executions = services.executions
    answered = execution.result is not None or execution.error is not None
    data = await executions.data(execution.execution_id) if answered else None
    receipt = await executions.receipt(execution)
    return Response(execution_response(execution, data, receipt), status_code=status)


HANDLERS: Final[list[ControllerRouterHandler]] = [submit_intent, list_executions, get_execution, cancel_execution]
