"""The callback of remote realms: the outcome of an execution whose call they have accepted with 202."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Meta, UnsetType

from interlock.intents import MAX_ERROR_CHARACTERS
from interlock.machine.errors import ExecutionNotFound, OutcomeTooLate, Overloaded, WebhookSignatureInvalid
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.server.experience.calls import services_of
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.vocabulary import ExecutionId, ExecutionState
from interlock.server.runtime.executions.remote_realms import Failed, Succeeded, outcome_in
from interlock.server.services import Services
from interlock.strict_json import canonical_json

_SECURITY: Final[list[dict[str, list[str]]]] = [{"realm": []}]


class OutcomeReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome of an attempt: either ``result`` or ``error``."""

    attempt: Annotated[int, Meta(ge=1, description="`attempt` of the call.", examples=[1])]
    result: (
        Annotated[
            msgspec.Raw,
            Meta(
                description="Any JSON that fits the intent's schema.",
                examples=[{"charge": "ch_1"}],
                extra_json_schema={"additionalProperties": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    error: (
        Annotated[
            str,
            Meta(
                max_length=MAX_ERROR_CHARACTERS,
                description="What went wrong, for the owner of the execution.",
                examples=["the card was declined"],
            ),
        ]
        | UnsetType
    ) = UNSET


class ReportedOutcome(msgspec.Struct, frozen=True):
    """The execution as it has ended."""

    execution_id: ExecutionId
    state: ExecutionState


async def signed_by_realm(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard a call that a remote realm signs. The execution id in its ``webhook-id`` becomes ``request.user``.

    Raises:
        WebhookSignatureInvalid: it is not signed with a secret of this realm, or its time is too far off.
        SettingsError: the realm's secrets can't be read.
        SurfaceFailed: the log has stopped.
    """
    services = services_of(connection)
    services.sessions.check_alive()
    body = await connection.body() if isinstance(connection, Request) else b""
    headers = dict(connection.headers)
    connection.scope["user"] = services.remote_realms.authenticate(connection.path_params["realm"], headers, body)


@post(
    "/api/realms/{realm:str}/outcomes",
    status_code=200,
    tags=["executions"],
    summary="Report an outcome",
    responses=responses(400, 413, 415, WebhookSignatureInvalid, 404, OutcomeTooLate, Overloaded),
    security=_SECURITY,
    guards=[signed_by_realm],
)
async def report_outcome(
    request: Request[Any, Any, Any], realm: FromPath[str], data: JSONBody[OutcomeReport]
) -> ReportedOutcome:
    """Report the outcome of an attempt that a remote realm has accepted with 202. Its response comes when it is recorded.

    The request is signed as the call was (Standard Webhooks), with the execution id as `webhook-id`. The same report again gets
    the same answer, so repeat it if the response was lost. If this attempt is not running any more, nothing is recorded (409).
    `state` is `failed` after an `error`, and if the result does not fit the intent's schema.
    """
    services, execution_id = services_of(request), str(request.user)
    outcome = outcome_in(await request.body())
    if outcome is None:
        raise RequestRefused(400, "send either result or error")
    execution = await services.executions.load(execution_id)
    if execution.realm != realm:
        raise ExecutionNotFound(execution_id)
    try:
        first, ended = await _report(services, execution, data.attempt, outcome)
    except OutcomeTooLate:
        services.metrics.remote_callback(realm, "late")
        raise
    services.metrics.remote_callback(realm, "taken" if first else "repeated")
    return ReportedOutcome(execution_id, ended.state or "")


async def _report(
    services: Services, execution: Execution, attempt: int, outcome: Succeeded | Failed
) -> tuple[bool, Execution]:
    """Give ``attempt`` its outcome. Return whether it had none before, and the ended execution.

    Raises:
        OutcomeTooLate: the execution has ended otherwise, or will.
    """
    first = False
    if execution.state not in EXECUTION_MACHINE.final:
        first = services.remote_realms.report(execution.realm, execution.execution_id, attempt, outcome)
        execution = await services.runner.outcome(execution.execution_id)
    # A first report whose result does not fit the schema has failed the execution, with an error that says so.
    taken = (first and execution.state == "failed") or await _recorded(services, execution.execution_id, outcome)
    if execution.attempt != attempt or not taken:
        raise OutcomeTooLate(attempt)
    return first, execution


async def _recorded(services: Services, execution_id: str, outcome: Succeeded | Failed) -> bool:
    """Return whether ``outcome`` is the one of the execution, which has ended."""
    data = await services.executions.data(execution_id)
    if isinstance(outcome, Failed):
        return data.error == outcome.error
    return data.result is not None and data.result == canonical_json(outcome.result)


HANDLERS: Final[list[ControllerRouterHandler]] = [report_outcome]
