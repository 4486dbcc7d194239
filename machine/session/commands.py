"""The commands of a session: one data structure per declared event.

The data is recorded with the transition unchanged, so it holds everything that guards and the fold need, and nothing secret.
``event`` names the structure's event in the declaration; a test compares the two sets.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

ExpiryReason: TypeAlias = Literal["idle", "absolute"]
"""The deadline that ended a session."""

RevocationReason: TypeAlias = Literal[
    "logout", "revoked", "token_reuse", "password_changed", "account_disabled", "account_deleted", "replaced"
]
"""Why a session was ended before its deadline. ``replaced``: its browser continued with another session."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of a session. They are fixed at its creation, so that its log can be checked alone.

    Durations are in milliseconds. ``refresh_grace_ms`` is how long an exchanged refresh token is still accepted, and how long
    a response may be under way (see :mod:`interlock.machine.session.refresh_tokens`).
    """

    idle_timeout_ms: int
    absolute_timeout_ms: int
    connection_limit: int
    refresh_grace_ms: int


class Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Create an anonymous session under ``policy``."""

    event: ClassVar[str] = "create"
    policy: Policy


Age: TypeAlias = Annotated[int, Meta(ge=0)]
"""How long ago, in milliseconds."""

Epoch: TypeAlias = Annotated[int, Meta(ge=0)]
"""A counter of the changes that void what was granted before."""


class Authenticate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Record that ``subject`` (an account id) has authenticated by ``method``.

    ``auth_age_ms`` is how long ago they authenticated at an identity provider, None if unknown. If omitted: just now.
    ``account_epoch`` is the account's epoch at that time. If omitted: 0.
    """

    event: ClassVar[str] = "authenticate"
    subject: str
    method: str
    auth_age_ms: Age | None = 0
    account_epoch: Epoch = 0


class Reauthenticate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Record that the same ``subject`` has authenticated again. The epoch rises, so older tokens stop working.

    ``auth_age_ms`` and ``account_epoch``: see :class:`Authenticate`.
    """

    event: ClassVar[str] = "reauthenticate"
    subject: str
    method: str
    auth_age_ms: Age | None = 0
    account_epoch: Epoch = 0


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Open connection ``connection_id`` on server ``node``."""

    event: ClassVar[str] = "connect"
    connection_id: str
    node: str


class Disconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record that connection ``connection_id`` is gone. ``code`` is its WebSocket close code, 1006 if no close was seen."""

    event: ClassVar[str] = "disconnect"
    connection_id: str
    code: int


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exchange a verified refresh token of ``epoch`` and ``rotation``."""

    event: ClassVar[str] = "refresh"
    epoch: int
    rotation: int


class Touch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record client activity."""

    event: ClassVar[str] = "touch"


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End the session for ``reason``."""

    event: ClassVar[str] = "revoke"
    reason: RevocationReason


class Expire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record that a deadline has passed. ``reason`` says which one."""

    event: ClassVar[str] = "expire"
    reason: ExpiryReason


Data: TypeAlias = Create | Authenticate | Reauthenticate | Connect | Disconnect | Refresh | Touch | Revoke | Expire
