"""Endpoints of administrators for all sessions."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import Overloaded
from interlock.machine.session.session import Session
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
from interlock.server.experience.endpoints.administration.responses import (
    AdminSessionView,
    admin_session,
)
from interlock.server.experience.guards import administrator
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.vocabulary import EndReason, SessionState
from interlock.server.services import Services


@get(
    "/sessions",
    summary="All sessions",
    response_headers=may_send("Link"),
    responses=responses(400, 422, *ADMIN),
    guards=[administrator],
)
async def list_all_sessions(  # noqa: PLR0913, PLR0917  # each is a filter, which Litestar gives by name
    request: Request[Any, Any, Any],
    in_state: Annotated[
        SessionState | None, QueryParameter(name="state", description="Only sessions in this state.")
    ] = None,
    subject: Subject = None,
    reason: Annotated[EndReason | None, QueryParameter(description="Only sessions that ended for this reason.")] = None,
    created_from: CreatedFrom = None,
    created_to: CreatedTo = None,
    updated_from: UpdatedFrom = None,
    updated_to: UpdatedTo = None,
    after: After = None,
    limit: Limit = 100,
) -> Response[list[AdminSessionView]]:
    """List the sessions of all accounts and all anonymous sessions, live and ended, newest first. All filters must match.

    With a range of `updated` and no `subject`, the list is in the order of the last transition, otherwise of the
    creation. Both ranges together need a `subject`. If more may follow, the response has a ``Link: rel="next"`` header
    (RFC 8288).
    """
    services = services_of(request)
    wanted = instance_filter(in_state, subject, reason, (created_from, created_to), (updated_from, updated_to))
    found = await services.administration.sessions(wanted, parse_cursor(after), limit)
    devices = await services.session_devices.of_sessions([each.session_id for each in found])
    return filtered_page(request, found, limit, lambda each: admin_session(each, devices.get(each.session_id)), wanted)


@get(
    "/sessions/{session_id:str}",
    summary="A session",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_any_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> AdminSessionView:
    """Get the current state of any session."""
    services = services_of(request)
    session = await _session(services, session_id)
    return admin_session(session, (await services.session_devices.of_sessions([session_id])).get(session_id))


@get(
    "/sessions/{session_id:str}/transitions",
    summary="The recorded history of a session",
    response_headers=may_send("Link"),
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def list_any_session_transitions(
    request: Request[Any, Any, Any], session_id: FromPath[str], after_version: AfterVersion = 0, limit: Limit = 100
) -> Response[list[TransitionView]]:
    """List the session's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    services = services_of(request)
    await _session(services, session_id)
    records = await services.sessions.history(session_id, after_version, limit)
    return history_page(f"sessions/{session_id}", records, limit)


@delete(
    "/sessions/{session_id:str}",
    summary="End a session",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def end_any_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[None]:
    """End any session and close its sockets. A session that has already ended is not changed."""
    services = services_of(request)
    receipt = await services.administration.end(await _session(services, session_id), acting(request))
    return Response(None, status_code=204, headers=receipt_header(receipt))


async def _session(services: Services, session_id: str) -> Session:
    with known():
        return await services.sessions.load(session_id)


HANDLERS: Final[list[ControllerRouterHandler]] = [
    list_all_sessions,
    get_any_session,
    list_any_session_transitions,
    end_any_session,
]
