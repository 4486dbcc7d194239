"""What administrators are shown. No field of it is a secret, or a hash of one (ASVS 8.2.3)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.machine.times import rfc3339
from interlock.server.runtime.administration import Account, AuditRecord

_ACCOUNT: Final = "acc_3q2-7wAAQGmJw0m5bW9uZQ"


class AdminSessionView(msgspec.Struct, frozen=True):
    """A session as administrators see it. ``updated_at`` is the time of its last transition; ``connections`` counts sockets."""

    session_id: Annotated[str, Meta(examples=["0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"])]
    state: Annotated[str, Meta(examples=["expired"])]
    version: Annotated[int, Meta(examples=[4])]
    subject: Annotated[str | None, Meta(examples=[_ACCOUNT])]
    connections: Annotated[int, Meta(examples=[0])]
    created_at: Annotated[str, Meta(examples=["2026-01-23T09:30:00.000Z"])]
    updated_at: Annotated[str, Meta(examples=["2026-01-23T09:31:07.250Z"])]
    idle_expires_at: Annotated[str, Meta(examples=["2026-01-23T10:00:02.500Z"])]
    expires_at: Annotated[str, Meta(examples=["2026-01-23T21:30:02.500Z"])]
    reason: Annotated[str | None, Meta(examples=["revoked"])]


class AdminAccountView(msgspec.Struct, frozen=True):
    """An account as administrators see it. ``email`` is null where somebody else proves who its owner is."""

    subject: Annotated[str, Meta(examples=[_ACCOUNT])]
    email: Annotated[str | None, Meta(examples=["ada@example.org"])]
    created_at: Annotated[str, Meta(examples=["2026-01-23T09:30:00.000Z"])]
    groups: Annotated[list[str], Meta(examples=[["staff"]])]
    disabled_at: Annotated[str | None, Meta(examples=["2026-02-01T08:00:00.000Z"])]


class DisabledAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An account that is disabled now, and how many sessions ended with it; ``receipt`` is that of the last end."""

    subject: Annotated[str, Meta(examples=[_ACCOUNT])]
    disabled_at: Annotated[str, Meta(examples=["2026-02-01T08:00:00.000Z"])]
    ended: Annotated[int, Meta(examples=[2])]
    receipt: Receipt | UnsetType = UNSET


class ActView(msgspec.Struct, frozen=True):
    """An act of an administrator that is no transition. ``address`` is where the request came from, if known."""

    position: Annotated[int, Meta(examples=[7])]
    at: Annotated[str, Meta(examples=["2026-02-01T08:00:00.000Z"])]
    actor: Annotated[str, Meta(examples=["admin:ada"])]
    action: Annotated[str, Meta(examples=["account.groups"])]
    object: Annotated[str, Meta(examples=[_ACCOUNT])]
    detail: Annotated[dict[str, Any], Meta(examples=[{"groups": ["staff"]}])]
    address: Annotated[str | None, Meta(examples=["192.0.2.7"])]


def admin_session(session: Session) -> AdminSessionView:
    """``session`` (at version 1 or later) as administrators see it."""
    return AdminSessionView(
        session_id=session.session_id,
        state=session.state or "",
        version=session.version,
        subject=session.subject,
        connections=len(session.connections),
        created_at=rfc3339(session.created_at_ms),
        updated_at=rfc3339(session.updated_at_ms),
        idle_expires_at=rfc3339(session.idle_deadline_ms),
        expires_at=rfc3339(session.absolute_deadline_ms),
        reason=session.reason,
    )


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
