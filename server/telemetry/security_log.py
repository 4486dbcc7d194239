"""Logs the transitions and refusals that are security events (ASVS 16.3.1 to 16.3.3).

Every change of a session passes the door, so no login, logout or revocation can go unlogged.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from interlock.machine.account.commands import IssueResetCode, Register, ResetPassword
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import Record
from interlock.machine.machine import Transition
from interlock.machine.session.commands import Authenticate, Reauthenticate, Refresh, Revoke

_log = structlog.get_logger("interlock.security")

_TOLD: Final = frozenset(
    each.event for each in (Register, IssueResetCode, ResetPassword, Authenticate, Reauthenticate, Refresh, Revoke)
)
_PASSWORD_CHANGE: Final = "password_change"  # noqa: S105  # the name of a method, not a password


def log_transition(record: Record, session: Any) -> None:
    """Listener for :meth:`interlock.server.runtime.door.Door.subscribe_own`."""
    move = record.transition
    if move.event not in _TOLD:
        return
    if move.kind == ACCOUNT_MACHINE.kind:
        _log_account(move)
        return
    match move.data:
        case Authenticate(method=method, subject=subject) | Reauthenticate(method=method, subject=subject):
            if method == _PASSWORD_CHANGE:
                _log.info("password.changed", subject=subject, session_id=move.instance_id)
                return
            _log.info("login.succeeded", method=method, subject=subject, session_id=move.instance_id)
        case Refresh(rotation=rotation):
            if rotation != session.rotation - 1:
                _log.info("token.repeated", session_id=move.instance_id, subject=session.subject)
        case Revoke(reason="token_reuse"):
            _log.warning("token.reused", session_id=move.instance_id, subject=session.subject)
        case Revoke(reason=reason):
            _log.info(
                "session.revoked",
                session_id=move.instance_id,
                reason=reason,
                actor=move.actor,
                subject=session.subject,
            )


def _log_account(move: Transition) -> None:
    match move.data:
        case Register():
            _log.info("account.registered", subject=move.instance_id)
        case IssueResetCode():
            _log.info("reset_code.issued", subject=move.instance_id, actor=move.actor)
        case ResetPassword():
            _log.info("password.reset", subject=move.instance_id)


def log_refusal(kind: str, instance_id: str, refusal: TransitionRefused) -> None:
    """Listener for :meth:`interlock.server.runtime.door.Door.subscribe_refusals`."""
    _log.info(
        "transition.refused",
        instance_kind=kind,
        instance_id=instance_id,
        instance_event=refusal.event,
        state=refusal.state,
        guard=refusal.guard,
    )
