"""Responses to administrators. No field is a secret, or the hash of one (ASVS 8.2.3)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.machine.session.view import session_view
from interlock.machine.times import rfc3339
from interlock.server.experience.vocabulary import (
    AccountId,
    EndReason,
    Position,
    SessionId,
    SessionState,
    Time,
    Version,
)
from interlock.server.runtime.administration import Account, AuditRecord


class AdminSessionView(msgspec.Struct, frozen=True):
    """A session as administrators see it. ``updated_at`` is the time of its last transition; ``connections`` counts sockets."""

    session_id: SessionId
    state: SessionState
    version: Version
    subject: AccountId | None
    connections: Annotated[int, Meta(examples=[0])]
    created_at: Time
    updated_at: Time
    idle_expires_at: Time
    expires_at: Time
    reason: EndReason | None


class AdminAccountView(msgspec.Struct, frozen=True):
    """An account as administrators see it. ``email`` is null if it logs in with an identity provider."""

    subject: AccountId
    email: Annotated[str, Meta(examples=["ada@example.org"])] | None
    created_at: Time
    groups: Annotated[list[str], Meta(examples=[["staff"]])]
    disabled_at: Time | None


class DisabledAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A disabled account, and how many sessions this call ended; ``receipt`` is that of the last end."""

    subject: AccountId
    disabled_at: Time
    ended: Annotated[int, Meta(examples=[2])]
    receipt: Receipt | UnsetType = UNSET


class ActView(msgspec.Struct, frozen=True):
    """An entry of the audit trail. ``address`` is the client's address, if known."""

    position: Position
    at: Time
    actor: Annotated[str, Meta(examples=["admin:ada"])]
    action: Annotated[str, Meta(examples=["account.groups"])]
    object: AccountId
    detail: Annotated[dict[str, Any], Meta(examples=[{"groups": ["staff"]}])]
    address: Annotated[str, Meta(examples=["192.0.2.7"])] | None


def admin_session(session: Session) -> AdminSessionView:
    """``session`` (at version 1 or later) as administrators see it."""
    shown = msgspec.structs.asdict(session_view(session))
    return AdminSessionView(**shown, updated_at=rfc3339(session.updated_at_ms))


def admin_account(account: Account) -> AdminAccountView:
    """``account`` as administrators see it."""
    return AdminAccountView(
        subject=account.account_id,
        email=account.email,
        created_at=rfc3339(account.created_at_ms),
        groups=list(account.groups),
        disabled_at=None if account.disabled_at_ms is None else rfc3339(account.disabled_at_ms),
    )


def act_view(record: AuditRecord) -> ActView:
    """``record`` as it is shown."""
    act = record.act
    return ActView(record.position, rfc3339(act.at_ms), act.actor, act.action, act.object, act.detail, act.address)
