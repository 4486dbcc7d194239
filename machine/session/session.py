"""One session: its fields, its guards, and ``evolve``, which applies a recorded transition to it.

The current session is exactly the fold of its transitions.

``create``, ``authenticate`` and ``reauthenticate`` start both clocks (NIST SP 800-63B-4, 2.1.3: reauthentication resets them).
``touch`` restarts the idle clock. ``refresh``, ``connect`` and heartbeats restart neither: a forgotten tab that keeps renewing
its tokens must still reach the idle timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from interlock.machine.errors import SessionEnded
from interlock.machine.machine import Keys, Transition
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Disconnect,
    Expire,
    ExpiryReason,
    Policy,
    Refresh,
)
from interlock.machine.session.refresh_tokens import IssuedToken, exchange, honoured
from interlock.spec.lifecycles import SESSION


class Connection(msgspec.Struct, frozen=True):
    """One live WebSocket of a session, and the server process that holds it."""

    connection_id: str
    node: str


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one session after ``version`` transitions. Times are integer milliseconds since the Unix epoch.

    ``state`` is None at version 0, before ``create``. ``epoch`` rises with every (re)authentication. ``rotation`` rises with
    every refresh; it is the number of the newest refresh token. ``refresh_tokens`` are the accepted tokens of this epoch,
    oldest first. ``auth_age_ms`` is how long before the last (re)authentication the subject had authenticated, None if
    unknown. ``account_epoch`` is the epoch of the subject's account at that login.
    """

    session_id: str
    state: str | None = None
    version: int = 0
    subject: str | None = None
    epoch: int = 0
    rotation: int = 0
    refresh_tokens: tuple[IssuedToken, ...] = ()
    connections: tuple[Connection, ...] = ()
    created_at_ms: int = 0
    updated_at_ms: int = 0
    idle_deadline_ms: int = 0
    absolute_deadline_ms: int = 0
    auth_age_ms: int | None = 0
    account_epoch: int = 0
    policy: Policy = Policy(0, 0, 0, 0)
    reason: str | None = None

    @property
    def auth_time_ms(self) -> int | None:
        """When the subject last authenticated, None if unknown; for an anonymous session, when it was created."""
        if self.auth_age_ms is None:
            return None
        return self.authenticated_at_ms - self.auth_age_ms

    @property
    def authenticated_at_ms(self) -> int:
        """When the current epoch began: at the last login, or for an anonymous session at its creation."""
        return self.absolute_deadline_ms - self.policy.absolute_timeout_ms

    @property
    def unused(self) -> bool:
        """Whether no refresh, connection or activity shows that the client has received the tokens of the current epoch."""
        began_ms = self.idle_deadline_ms - self.policy.idle_timeout_ms
        never_refreshed = len(self.refresh_tokens) == 1
        return never_refreshed and not self.connections and began_ms == self.authenticated_at_ms

    @property
    def deadline_ms(self) -> int:
        """When the session expires if nothing renews it."""
        return min(self.idle_deadline_ms, self.absolute_deadline_ms)

    @property
    def ended(self) -> bool:
        """Whether the end is recorded."""
        return self.state in FINAL_STATES


FINAL_STATES: Final[frozenset[str]] = frozenset(state.name for state in SESSION.states if state.final)


def alive(session: Session, _data: object, now_ms: int) -> bool:
    """Return whether ``now_ms`` is before the idle deadline and before the absolute deadline."""
    return now_ms < session.idle_deadline_ms and now_ms < session.absolute_deadline_ms


def _same_subject(session: Session, data: Any, _now_ms: int) -> bool:
    return bool(session.subject == data.subject)


def _below_connection_limit(session: Session, _data: Any, _now_ms: int) -> bool:
    return len(session.connections) < session.policy.connection_limit


def _known_connection(session: Session, data: Any, _now_ms: int) -> bool:
    return data.connection_id in [connection.connection_id for connection in session.connections]


def _last_connection(session: Session, _data: Any, _now_ms: int) -> bool:
    return len(session.connections) == 1


def _rotation_honoured(session: Session, data: Any, now_ms: int) -> bool:
    return bool(data.epoch == session.epoch and honoured(session.refresh_tokens, data.rotation, now_ms) is not None)


GUARDS: Final[dict[str, Callable[[Session, Any, int], bool]]] = {
    "alive": alive,
    "same_subject": _same_subject,
    "below_connection_limit": _below_connection_limit,
    "known_connection": _known_connection,
    "last_connection": _last_connection,
    "rotation_honoured": _rotation_honoured,
}


def evolve(session: Session, transition: Transition) -> Session:
    """Return ``session`` after ``transition``. The caller passes decided transitions in version order."""
    return _EVOLVE[transition.event](session, transition, transition.data)


def _created(session: Session, step: Transition, data: Create) -> Session:
    return _replace(
        session,
        state=step.target,
        version=step.version,
        updated_at_ms=step.at_ms,
        refresh_tokens=(IssuedToken(session.rotation, step.at_ms),),
        policy=data.policy,
        created_at_ms=step.at_ms,
        idle_deadline_ms=step.at_ms + data.policy.idle_timeout_ms,
        absolute_deadline_ms=step.at_ms + data.policy.absolute_timeout_ms,
    )


def _authenticated(session: Session, step: Transition, data: Authenticate) -> Session:
    return _replace(
        session,
        state=step.target,
        version=step.version,
        updated_at_ms=step.at_ms,
        subject=data.subject,
        epoch=session.epoch + 1,
        refresh_tokens=(IssuedToken(session.rotation, step.at_ms),),
        idle_deadline_ms=step.at_ms + session.policy.idle_timeout_ms,
        absolute_deadline_ms=step.at_ms + session.policy.absolute_timeout_ms,
        auth_age_ms=data.auth_age_ms,
        account_epoch=data.account_epoch,
    )


def _connected(session: Session, step: Transition, data: Connect) -> Session:
    connections = (*_others(session, data.connection_id), Connection(data.connection_id, data.node))
    return _replace(session, state=step.target, version=step.version, updated_at_ms=step.at_ms, connections=connections)


def _disconnected(session: Session, step: Transition, data: Disconnect) -> Session:
    connections = _others(session, data.connection_id)
    return _replace(session, state=step.target, version=step.version, updated_at_ms=step.at_ms, connections=connections)


def _others(session: Session, connection_id: str) -> tuple[Connection, ...]:
    return tuple([c for c in session.connections if c.connection_id != connection_id])


def _refreshed(session: Session, step: Transition, data: Refresh) -> Session:
    return _replace(
        session,
        state=step.target,
        version=step.version,
        updated_at_ms=step.at_ms,
        rotation=session.rotation + 1,
        refresh_tokens=exchange(session.refresh_tokens, data.rotation, step.at_ms, session.policy.refresh_grace_ms),
    )


def _touched(session: Session, step: Transition, _data: object) -> Session:
    deadline_ms = step.at_ms + session.policy.idle_timeout_ms
    return _replace(
        session, state=step.target, version=step.version, updated_at_ms=step.at_ms, idle_deadline_ms=deadline_ms
    )


def _ended(session: Session, step: Transition, data: Expire) -> Session:
    return _replace(
        session,
        state=step.target,
        version=step.version,
        updated_at_ms=step.at_ms,
        reason=data.reason,
        connections=(),
    )


# Each caller passes literal keyword arguments: building a dictionary of them takes three times as long.
_replace: Final = msgspec.structs.replace
_EVOLVE: Final[dict[str, Callable[[Session, Transition, Any], Session]]] = {
    "create": _created,
    "authenticate": _authenticated,
    "reauthenticate": _authenticated,
    "connect": _connected,
    "disconnect": _disconnected,
    "refresh": _refreshed,
    "touch": _touched,
    "revoke": _ended,
    "expire": _ended,
}


def keys(session: Session) -> Keys:
    """Return the fields of ``session`` that lists, timers and conditions use."""
    return Keys(session.subject, session.epoch, session.deadline_ms, session.reason, bool(session.connections))


def overdue_reason(session: Session, now_ms: int) -> ExpiryReason:
    """Return the deadline that ends ``session`` at ``now_ms``. The caller has checked that the session is not alive."""
    return "absolute" if now_ms >= session.absolute_deadline_ms else "idle"


def ensure_alive(session: Session, now_ms: int) -> None:
    """Check that ``session`` is alive at ``now_ms``, whether or not its end is recorded.

    Raises:
        SessionEnded: the session is not alive; the error carries the reason.
    """
    if session.ended:
        raise SessionEnded(session.reason or "")
    if now_ms >= session.deadline_ms:
        raise SessionEnded(overdue_reason(session, now_ms))


def touch_due_at_ms(session: Session) -> int:
    """Return when activity should be recorded next: a tenth of the idle timeout after the idle clock started."""
    idle_timeout_ms = session.policy.idle_timeout_ms
    return session.idle_deadline_ms - idle_timeout_ms + idle_timeout_ms // 10


def touch_due(session: Session, now_ms: int) -> bool:
    """Return whether activity should be recorded at ``now_ms``."""
    return now_ms >= touch_due_at_ms(session)


def opens_until_ms(session: Session, rotation: int, now_ms: int) -> int:
    """Return until when the refresh token of ``rotation`` is accepted without being exchanged; 0 if it is not accepted.

    Once it was exchanged, its holder has a newer token. It is accepted for one more grace, for requests sent meanwhile.
    """
    token = honoured(session.refresh_tokens, rotation, now_ms)
    if token is None:
        return 0
    ends = [session.deadline_ms]
    if token.until_ms is not None:
        ends.append(token.until_ms)
    if token.used_at_ms is not None:
        ends.append(token.used_at_ms + session.policy.refresh_grace_ms)
    return min(ends)
