"""Context of log lines: the fields of the current request, as one dict in one context variable.

Every request pays for this. structlog's ``bind_contextvars`` costs microseconds per call, a twentieth of a small request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from structlog.typing import EventDict

_request: Final[ContextVar[dict[str, str] | None]] = ContextVar("interlock_request", default=None)


def begin_request(request_id: str, client: str) -> dict[str, str]:
    """Set the fields of the request for all log lines in this task and those it starts. Return them."""
    fields = {"request_id": request_id, "client": client}
    _request.set(fields)
    return fields


def note_session(session_id: str) -> None:
    """Add the request's authenticated session to its fields."""
    fields = _request.get()
    if fields is not None:
        fields["session_id"] = session_id


def merge_request(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor of structlog: add the request's fields to a line. The line's own fields win."""
    fields = _request.get()
    return {**fields, **event} if fields else event
