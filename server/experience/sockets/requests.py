"""The intents and cancels that arrive over a WebSocket: what HTTP does for the same calls, answered by messages."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from interlock.machine.errors import InterlockError, Overloaded
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.machine import authority_of, ensure_authority
from interlock.machine.session.messages import CancelRequest, SubmitRequest
from interlock.machine.session.session import Session
from interlock.server.experience.problems import TYPE_PREFIX, problem_for
from interlock.server.services import Services

_log = structlog.get_logger("interlock.http")

UNANSWERED: Final = 16
"""Intents and cancels of a connection that are in work at the same time; more are refused."""


async def answer(
    services: Services, conversation: Conversation, request: SubmitRequest | CancelRequest, *, counted: bool
) -> None:
    """Do what ``request`` asks for, under the credential of ``conversation``, or refuse it.

    ``counted``: the account's rate limits apply. As over HTTP, a cancel does not count.
    """
    try:
        session = await _session(services, conversation)
        if counted and isinstance(request, SubmitRequest):
            services.limits.of_account("intent", session.subject or session.session_id)
        session = await services.authenticator.note_activity(session)
        if isinstance(request, SubmitRequest):
            await _submit(services, session, request)
        else:
            await _cancel(services, session, request)
    except Exception as error:  # noqa: BLE001  # else the client would wait for an answer
        refuse(services, conversation, request, error)


def refuse(
    services: Services, conversation: Conversation, request: SubmitRequest | CancelRequest, error: Exception
) -> None:
    """Answer ``request`` with the problem of ``error``."""
    problem, headers = problem_for(error)
    name = problem.type.removeprefix(TYPE_PREFIX)
    services.metrics.problem(name)
    if isinstance(error, InterlockError):
        _log.info("message.refused", problem=name, status=problem.status)
    else:
        _log.error("message.failed", exc_info=error)
    retry_after = headers.get("retry-after")
    conversation.refuse(request, msgspec.json.encode(problem), None if retry_after is None else int(retry_after))


async def _session(services: Services, conversation: Conversation) -> Session:
    """Return the session, if the connection's credential still opens it.

    Raises:
        CredentialRefused: it does not; the connection is about to be closed.
    """
    session = await services.sessions.load(conversation.session_id)
    ensure_authority(session, conversation.epoch, services.clock.now_ms())
    return session


async def _submit(services: Services, session: Session, request: SubmitRequest) -> None:
    """Have the intent recorded. Its ``accepted`` follows from the record; that of a repeat is sent here."""
    if services.draining:
        raise Overloaded
    under, parameters = authority_of(session), bytes(request.parameters)
    accepted = await services.executions.accept(session, under, request.id, request.name, parameters)
    if accepted.repeated:
        await services.streams.repeat(session.session_id, accepted.execution, accepted.receipt)


async def _cancel(services: Services, session: Session, request: CancelRequest) -> None:
    """Stop the execution. Its ``outcome`` follows from the record; that of one that had ended is sent here."""
    execution = await services.executions.owned(session, request.execution_id)
    await services.streams.follow(session.session_id, execution)
    if execution.state not in EXECUTION_MACHINE.final:
        await services.runner.cancel(session, authority_of(session), request.execution_id)
