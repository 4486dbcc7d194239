"""Endpoints of administrators for all executions. None of them shows parameters, results or errors: those are domain data."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import Overloaded
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.wire import TransitionView
from interlock.server.experience.calls import After, parse_cursor, services_of
from interlock.server.experience.endpoints.administration.calls import (
    ADMIN,
    AfterVersion,
    CreatedFrom,
    CreatedTo,
    Limit,
    Subject,
    UpdatedFrom,
    UpdatedTo,
    acting,
    filtered_page,
    history_page,
    instance_filter,
    known,
)
from interlock.server.experience.endpoints.administration.responses import AdminExecutionView, admin_execution
from interlock.server.experience.guards import administrator
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.vocabulary import ExecutionReason, ExecutionState
from interlock.server.services import Services


@get(
    "/executions",
    summary="All executions",
    response_headers=may_send("Link"),
    responses=responses(400, 422, *ADMIN),
    guards=[administrator],
)
async def list_all_executions(  # noqa: PLR0913, PLR0917  # each is a filter, which Litestar gives by name
    request: Request[Any, Any, Any],
    in_state: Annotated[
        ExecutionState | None, QueryParameter(name="state", description="Only executions in this state.")
    ] = None,
    subject: Subject = None,
    reason: Annotated[
        ExecutionReason | None, QueryParameter(description="Only executions that ended for this reason.")
    ] = None,
    created_from: CreatedFrom = None,
    created_to: CreatedTo = None,
    updated_from: UpdatedFrom = None,
    updated_to: UpdatedTo = None,
    after: After = None,
    limit: Limit = 100,
) -> Response[list[AdminExecutionView]]:
    """List the executions of all accounts, newest first. All filters must match; they are those of the list of sessions.

    If more may follow, the response has a ``Link: rel="next"`` header (RFC 8288).
    """
    services = services_of(request)
    wanted = instance_filter(in_state, subject, reason, (created_from, created_to), (updated_from, updated_to))
    found = await services.executions.page_of_all(wanted, parse_cursor(after), limit)
    return filtered_page(request, found, limit, admin_execution, wanted)


@get(
    "/executions/{execution_id:str}",
    summary="An execution",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_any_execution(request: Request[Any, Any, Any], execution_id: FromPath[str]) -> AdminExecutionView:
    """Get the current state of any execution, without its parameters, result and error."""
    return admin_execution(await _execution(services_of(request), execution_id))


@get(
    "/executions/{execution_id:str}/transitions",
    summary="The recorded history of an execution",
    response_headers=may_send("Link"),
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def list_any_execution_transitions(
    request: Request[Any, Any, Any], execution_id: FromPath[str], after_version: AfterVersion = 0, limit: Limit = 100
) -> Response[list[TransitionView]]:
    """List the execution's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    services = services_of(request)
    await _execution(services, execution_id)
    records = await services.executions.history(execution_id, after_version, limit)
    return history_page(f"executions/{execution_id}", records, limit)


@delete(
    "/executions/{execution_id:str}",
    status_code=200,
    summary="Cancel an execution",
    responses={
        202: ResponseSpec(
            AdminExecutionView, description="Not ended yet; it ends without another call.", generate_examples=False
        ),
        **responses(400, 404, *ADMIN, Overloaded),
    },
    guards=[administrator],
)
async def cancel_any_execution(
    request: Request[Any, Any, Any], execution_id: FromPath[str]
) -> Response[AdminExecutionView]:
    """Cancel any execution, as its owner could. The response comes when it has ended (200), and `state` says how."""
    services = services_of(request)
    caller = acting(request)
    with known():
        async with caller.acting() as under:
            execution = await services.runner.cancel_any(execution_id, under, caller.actor)
    ended = execution.state in EXECUTION_MACHINE.final
    return Response(admin_execution(execution), status_code=200 if ended else 202)


async def _execution(services: Services, execution_id: str) -> Execution:
    with known():
        return await services.executions.load(execution_id)


HANDLERS: Final[list[ControllerRouterHandler]] = [
    list_all_executions,
    get_any_execution,
    list_any_execution_transitions,
    cancel_any_execution,
]
