"""What the core of the client takes and gives: its inputs, its outputs, and why a session is over."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from interlock.machine.closing import Recovery

PROBLEM_PREFIX = "urn:interlock:problem:"


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A response with tokens. ``expires_in`` counts seconds from its arrival."""

    session_id: str
    state: str
    access_token: str
    refresh_token: str
    expires_in: int


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457) of an Interlock server: a refusal, and what to do about it."""

    type: str
    status: int
    recovery: Recovery
    title: str = ""
    detail: str = ""
    reason: str | None = None

    @property
    def name(self) -> str:
        """The last part of ``type``, such as ``token-expired``."""
        return self.type.removeprefix(PROBLEM_PREFIX)


class End(msgspec.Struct, frozen=True):
    """Why a session is over: ``logout``, ``revoked``, ``idle``, …; or the close code or problem that ended it here."""

    reason: str


class Failure(msgspec.Struct, frozen=True):
    """A call without success: refused with a ``problem``, or not answered by an Interlock server at all (None)."""

    problem: Problem | None = None
    retry_after_ms: int = 0


# Inputs. ``generation`` is that of the output which asked.


class TokensArrived(msgspec.Struct, frozen=True):
    """A login, a refresh or a change of password was answered."""

    tokens: Tokens


class RefreshAnswered(msgspec.Struct, frozen=True):
    """A refresh was answered with tokens, or failed."""

    generation: int
    answer: Tokens | Failure


class CallRefused(msgspec.Struct, frozen=True):
    """A call with ``access_token`` was refused."""

    access_token: str
    problem: Problem


class LoggedOut(msgspec.Struct, frozen=True):
    """A logout was answered, or found that the session had ended."""


class ConnectionWanted(msgspec.Struct, frozen=True):
    """The application wants to be connected, or no longer."""

    wanted: bool


class SocketOpened(msgspec.Struct, frozen=True):
    """The handshake succeeded."""


class HandshakeFailed(msgspec.Struct, frozen=True):
    """The handshake was refused over HTTP, or the network failed."""

    failure: Failure


class TextReceived(msgspec.Struct, frozen=True):
    """A frame arrived."""

    text: str


class SocketClosed(msgspec.Struct, frozen=True):
    """The socket is closed; 1006 without a close frame."""

    code: int
    reason: str = ""


class IntentSubmitted(msgspec.Struct, frozen=True):
    """The application submits an intent under an id of its own."""

    intent_id: str
    name: str
    parameters: Any


class CancelAsked(msgspec.Struct, frozen=True):
    """The application asks to stop the execution of an intent."""

    intent_id: str


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


Input: TypeAlias = (
    TokensArrived
    | RefreshAnswered
    | CallRefused
    | LoggedOut
    | ConnectionWanted
    | SocketOpened
    | HandshakeFailed
    | TextReceived
    | SocketClosed
    | IntentSubmitted
    | CancelAsked
    | Tick
)


# Outputs: what the shell does.


class Refresh(msgspec.Struct, frozen=True):
    """Exchange the refresh token."""

    generation: int
    refresh_token: str


class KeepTokens(msgspec.Struct, frozen=True):
    """Store the new refresh token, before the access token is used."""

    tokens: Tokens


class OpenSocket(msgspec.Struct, frozen=True):
    """Open a WebSocket with this access token."""

    access_token: str


class Send(msgspec.Struct, frozen=True):
    """Send a message."""

    text: str


class CloseSocket(msgspec.Struct, frozen=True):
    """Close the WebSocket, or stop opening it."""


class Connected(msgspec.Struct, frozen=True):
    """``hello`` has arrived. ``version`` is the session's."""

    connection_id: str
    state: str
    version: int


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is lost, and the client reconnects by itself."""

    code: int
    reason: str


class Stopped(msgspec.Struct, frozen=True):
    """The connection is lost, and reconnecting needs somebody: the user, or a change of the client."""

    code: int
    reason: str


class Transition(msgspec.Struct, frozen=True):
    """A transition of the session was recorded."""

    event: str
    target: str
    version: int


class IntentAccepted(msgspec.Struct, frozen=True):
    """The intent is recorded as an execution."""

    intent_id: str
    execution_id: str


class IntentProgress(msgspec.Struct, frozen=True):
    """The execution has emitted a value. A higher ``attempt`` than before: it has begun again after a crash."""

    intent_id: str
    attempt: int
    value: Any


class IntentEnded(msgspec.Struct, frozen=True):
    """The execution has ended: ``succeeded`` with a ``result``, or ``failed`` or ``cancelled`` for a ``reason``."""

    intent_id: str
    state: str
    result: Any = None
    reason: str | None = None
    error: str | None = None


class IntentRefused(msgspec.Struct, frozen=True):
    """The intent was refused; nothing was recorded, and its id is unused."""

    intent_id: str
    problem: Problem


class SessionEnded(msgspec.Struct, frozen=True):
    """The session is over for this client. Nothing follows."""

    end: End


Output: TypeAlias = (
    Refresh
    | KeepTokens
    | OpenSocket
    | Send
    | CloseSocket
    | Connected
    | Disconnected
    | Stopped
    | Transition
    | IntentAccepted
    | IntentProgress
    | IntentEnded
    | IntentRefused
    | SessionEnded
)
