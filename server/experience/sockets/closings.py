"""The close of a connection that an error ended."""

from __future__ import annotations

import structlog

from interlock.machine.closing import Close
from interlock.machine.errors import (
    CredentialRefused,
    InterlockError,
    NotAuthenticated,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
    TooManyConnections,
    TransitionRefused,
)

_log = structlog.get_logger("interlock.http")


def closing_for(error: Exception) -> Close:
    """Return how a connection ends that failed with ``error``."""
    match error:
        case SessionNotFound():
            return Close("session_not_found")
        case SessionEnded():
            return Close("session_ended", error.reason)
        case TokenExpired():
            return Close("token_expired")
        case CredentialRefused() | NotAuthenticated():
            return Close("not_authenticated", str(error))
        case TransitionRefused(guard="below_connection_limit") | TooManyConnections():
            return Close("too_many_connections")
        case TransitionRefused(state="created"):
            return Close("not_authenticated", "the session is anonymous; log in first")
        case Overloaded() | TimeoutError():
            return Close("overloaded")
    return Close("internal_error")


def logged_closing(error: Exception) -> Close:
    """Return :func:`closing_for` of ``error``, and log the server's own faults."""
    if not isinstance(error, InterlockError | TimeoutError):
        _log.error("socket.failed", exc_info=error)
    return closing_for(error)
