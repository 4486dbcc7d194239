"""The table of WebSocket close codes: code, reason, and what the client does next. And what it does after a refusal.

An error's close code is chosen by ``closing_for`` in ``server/experience/sockets/closings.py``, a record's by
:meth:`interlock.machine.session.conversation.Conversation.observe`, and that of a bad frame where it is read
(``server/experience/transport/websocket.py``).

Codes 1000 to 1013 come from RFC 6455 (7.4.1) and the IANA registry. Codes 4400 to 4504 are Interlock's own, numbered like HTTP
statuses of similar meaning.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class ClientAction(enum.Enum):
    """What a client does after a close."""

    NONE = "nothing"
    RECONNECT = "reconnect"
    REFRESH = "refresh, then reconnect"
    LOG_IN = "log in"
    START_SESSION = "start a new session"
    FIX_CLIENT = "fix the client"
    ASK_USER = "wait for the user"


class Recovery(enum.StrEnum):
    """What a client must do after a problem."""

    FIX_REQUEST = "fix_request"
    LOG_IN = "log_in"
    REFRESH = "refresh"
    START_SESSION = "start_session"
    GET_SESSION = "get_session"
    ASK_USER = "ask_user"
    ASK_ADMINISTRATOR = "ask_administrator"
    RETRY_LATER = "retry_later"


class CloseCode(msgspec.Struct, frozen=True):
    """One row. ``reason`` is sent in the close frame, with ``{reason}`` in it replaced. ``advice`` is shown in the docs."""

    code: int
    name: str
    reason: str
    next: ClientAction
    advice: str


_ROWS: Final = (
    CloseCode(1000, "bye", "bye", ClientAction.NONE, "Nothing: both sides are done."),
    CloseCode(
        1001, "draining", "draining", ClientAction.RECONNECT, "Reconnect after a random wait; the server is restarting."
    ),
    CloseCode(1002, "protocol_error", "protocol error", ClientAction.FIX_CLIENT, "Fix the client; do not retry."),
    CloseCode(1007, "invalid_text", "invalid UTF-8", ClientAction.FIX_CLIENT, "Fix the client; do not retry."),
    CloseCode(1008, "session_not_found", "Session not found", ClientAction.START_SESSION, "Start a new session."),
    CloseCode(1009, "message_too_big", "message too big", ClientAction.FIX_CLIENT, "Fix the client; do not retry."),
    CloseCode(1011, "internal_error", "internal error", ClientAction.RECONNECT, "Reconnect with back-off."),
    CloseCode(1013, "overloaded", "overloaded", ClientAction.RECONNECT, "Reconnect with back-off."),
    CloseCode(4400, "bad_message", "bad message: {reason}", ClientAction.FIX_CLIENT, "Fix the client; do not retry."),
    CloseCode(
        4401,
        "not_authenticated",
        "not authenticated: {reason}",
        ClientAction.LOG_IN,
        "Log in; do not retry with this credential.",
    ),
    CloseCode(
        4403,
        "session_ended",
        "session ended: {reason}",
        ClientAction.START_SESSION,
        "Start a new session; do not retry.",
    ),
    CloseCode(
        4408, "token_expired", "token expired", ClientAction.REFRESH, "Refresh the access token, then reconnect."
    ),
    CloseCode(
        4409, "displaced", "displaced by another connection", ClientAction.ASK_USER, "Do not reconnect automatically."
    ),
    CloseCode(4413, "slow_consumer", "slow consumer", ClientAction.RECONNECT, "Reconnect and resume."),
    CloseCode(
        4420,
        "flood",
        "too many frames",
        ClientAction.FIX_CLIENT,
        "Fix the client: send fewer and larger messages; do not retry.",
    ),
    CloseCode(
        4429, "too_many_connections", "too many connections", ClientAction.ASK_USER, "Do not reconnect automatically."
    ),
    CloseCode(4504, "heartbeat_lost", "heartbeat lost", ClientAction.RECONNECT, "Reconnect and resume."),
)

CLOSE_CODES: Final[dict[str, CloseCode]] = {row.name: row for row in _ROWS}
"""All close codes, by name."""


class Close(msgspec.Struct, frozen=True):
    """The close of one connection. ``name`` is a key of :data:`CLOSE_CODES`; ``detail`` replaces ``{reason}`` in its text."""

    name: str
    detail: str = ""

    @property
    def code(self) -> int:
        """The WebSocket close code."""
        return CLOSE_CODES[self.name].code

    @property
    def reason(self) -> str:
        """The text of the close frame, truncated to the 123 bytes that RFC 6455 (5.5) allows."""
        text = CLOSE_CODES[self.name].reason.format(reason=self.detail)
        return text.encode()[:123].decode(errors="ignore")
