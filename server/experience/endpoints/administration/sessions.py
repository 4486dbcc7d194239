"""Endpoints of administrators for all sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import Overloaded
from interlock.machine.session.session import Session
from interlock.machine.wire import TransitionView
from interlock.server.experience.calls import (
    After,
    format_cursor,
    page,
    parse_cursor,
    services_of,
)
from interlock.server.experience.endpoints.administration.calls import (
    ADMIN,
    AfterVersion,
    Limit,
    acting,
    history_page,
    known,
)
from interlock.server.experience.endpoints.administration.responses import (
    AdminSessionView,
    admin_session,
)
from interlock.server.experience.guards import administrator
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.vocabulary import EndReason, SessionState
from interlock.server.runtime.accounts.administration import InstanceFilter
from interlock.server.services import Services

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


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
    subject: Annotated[str | None, QueryParameter(max_length=64, description="Only this account's sessions.")] = None,
    reason: Annotated[EndReason | None, QueryParameter(description="Only sessions that ended for this reason.")] = None,
    created_from: Annotated[
        str | None, QueryParameter(format="date-time", description="Created at or after this time.")
    ] = None,
    created_to: Annotated[
        str | None, QueryParameter(format="date-time", description="Created before this time.")
    ] = None,
    updated_from: Annotated[
        str | None, QueryParameter(format="date-time", description="Last changed at or after this time.")
    ] = None,
    updated_to: Annotated[
        str | None, QueryParameter(format="date-time", description="Last changed before this time.")
    ] = None,
    after: After = None,
    limit: Limit = 100,
) -> Response[list[AdminSessionView]]:
    """List the sessions of all accounts and all anonymous sessions, live and ended, newest first. All filters must match.

    With a range of `updated` and no `subject`, the list is in the order of the last transition, otherwise of the
    creation. Both ranges together need a `subject`. If more may follow, the response has a ``Link: rel="next"`` header
    (RFC 8288).
    """
    services = services_of(request)
    wanted = InstanceFilter(
        in_state,
        subject,
        reason,
        _ms("created_from", created_from),
        _ms("created_to", created_to),
        _ms("updated_from", updated_from),
        _ms("updated_to", updated_to),
    )
    if wanted.of_creation and wanted.by_update:
        raise RequestRefused(422, "ranges of created and of updated go together only with a subject")
    found = await services.administration.sessions(wanted, parse_cursor(after), limit)
    filters = dict(request.query_params.items())
    return page(
        "/api/admin/sessions",
        found,
        limit,
        admin_session,
        lambda last: filters | {"after": format_cursor(wanted.cursor_of(last))},
    )


@get(
    "/sessions/{session_id:str}",
    summary="A session",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_any_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> AdminSessionView:
    """Get the current state of any session."""
    services = services_of(request)
    return admin_session(await _session(services, session_id))


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


def _ms(name: str, text: str | None) -> int | None:
    """Parse the RFC 3339 time ``text`` of the parameter ``name``, and return it in ms.

    Raises:
        RequestRefused: it is not such a time.
    """
    if text is None:
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError):  # a TypeError if it has no time zone
        raise RequestRefused(400, f"{name} is a time with its time zone, such as 2026-01-23T09:30:00Z") from None


HANDLERS: Final[list[ControllerRouterHandler]] = [
    list_all_sessions,
    get_any_session,
    list_any_session_transitions,
    end_any_session,
]
