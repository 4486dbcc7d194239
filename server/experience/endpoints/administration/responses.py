"""Responses to administrators. No field holds a secret or the hash of one (ASVS 8.2.3)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.account.account import Account
from interlock.machine.execution.execution import Execution
from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.machine.session.view import session_view
from interlock.machine.times import rfc3339
from interlock.server.experience.responses import ListedSessionView, device_view
from interlock.server.experience.vocabulary import (
    AccountId,
    AccountState,
    Effects,
    ExecutionId,
    ExecutionReason,
    ExecutionState,
    IntentId,
    IntentName,
    OnSessionEnd,
    SessionId,
    Time,
    Version,
)
from interlock.server.guard.session_devices.kept import SessionDevice


class AdminSessionView(ListedSessionView, frozen=True):
    """A session as administrators see it. ``updated_at`` is the time of its last transition; ``connections`` counts sockets."""

    updated_at: Time


class AdminAccountView(msgspec.Struct, frozen=True):
    """An account as administrators see it. ``email`` is null if it logs in with an identity provider, or was deleted."""

    subject: AccountId
    state: AccountState
    version: Version
    email: Annotated[str, Meta(examples=["ada@example.org"])] | None
    created_at: Time
    updated_at: Time
    groups: Annotated[list[str], Meta(examples=[["staff"]])]
    disabled_at: Time | None


class AdminExecutionView(msgspec.Struct, frozen=True):
    """An execution as administrators see it. ``node`` runs it, null while it is not running; ``parent`` submitted it.

    ``expires_at`` is when its time is over. It has no parameters, result or error: those are domain data.
    """

    execution_id: ExecutionId
    state: ExecutionState
    version: Version
    subject: AccountId
    session_id: SessionId
    realm: Annotated[str, Meta(examples=["notes"])]
    name: IntentName
    intent_id: IntentId
    effects: Effects
    on_session_end: OnSessionEnd
    parent: ExecutionId | None
    node: Annotated[str, Meta(examples=["node-1"])] | None
    attempt: Annotated[int, Meta(examples=[1])]
    accepted_at: Time
    started_at: Time | None
    updated_at: Time
    expires_at: Time
    reason: ExecutionReason | None


class EndedAccountResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A disabled or deleted account, and how many sessions this call ended; ``receipt`` is that of the last record."""

    subject: AccountId
    state: AccountState
    ended: Annotated[int, Meta(examples=[2])]
    receipt: Receipt | UnsetType = UNSET


class ResetCodeResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A code with which the account's owner can set another password once, before ``expires_at``. It is shown only here."""

    code: Annotated[str, Meta(examples=["7K2M-Q9XF-4RTB-0WZD-H6JV-3NPC"])]
    expires_at: Time
    receipt: Receipt | UnsetType = UNSET


def admin_session(session: Session, seen: SessionDevice | None) -> AdminSessionView:
    """Return the administrators' view of ``session``, which is at version 1 or later, and of its device."""
    shown = msgspec.structs.asdict(session_view(session))
    return AdminSessionView(**shown, updated_at=rfc3339(session.updated_at_ms), device=device_view(seen))


def admin_execution(execution: Execution) -> AdminExecutionView:
    """Return the administrators' view of ``execution``, which is at version 1 or later."""
    return AdminExecutionView(
        execution_id=execution.execution_id,
        state=execution.state or "",
        version=execution.version,
        subject=execution.subject or "",
        session_id=execution.session_id,
        realm=execution.realm,
        name=execution.intent,
        intent_id=execution.intent_id,
        effects=execution.effects,
        on_session_end=execution.on_session_end,
        parent=execution.parent,
        node=execution.node,
        attempt=execution.attempt,
        accepted_at=rfc3339(execution.created_at_ms),
        started_at=rfc3339(execution.started_at_ms) if execution.attempt else None,
        updated_at=rfc3339(execution.updated_at_ms),
        expires_at=rfc3339(execution.deadline_ms),
        reason=execution.reason,
    )


def admin_account(account: Account, email: str | None) -> AdminAccountView:
    """Return the administrators' view of ``account`` (at version 1 or later), whose owner has ``email``."""
    return AdminAccountView(
        subject=account.account_id,
        state=account.state or "",
        version=account.version,
        email=email,
        created_at=rfc3339(account.created_at_ms),
        updated_at=rfc3339(account.updated_at_ms),
        groups=list(account.groups),
        disabled_at=None if account.disabled_at_ms is None else rfc3339(account.disabled_at_ms),
    )
