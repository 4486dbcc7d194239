"""What a caller may ask of a session: one data structure per declared event.

The data is recorded with the transition as it stands, so it holds all that a guard or the fold will ever need, and
nothing secret. ``event`` ties each structure to its event in the declaration; a test holds the two sets equal.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

ExpiryReason: TypeAlias = Literal["idle", "absolute"]
"""Which deadline ended a session."""

RevocationReason: TypeAlias = Literal[
    "logout", "revoked", "token_reuse", "password_changed", "account_disabled", "account_deleted", "replaced"
]
"""Why somebody, or the server, ended a session before its deadline. ``replaced``: its browser went on with another one."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits a session lives under, fixed when it is created so that its log can be checked alone.

    Durations in milliseconds. ``refresh_grace_ms``: how long a refresh token that was exchanged is still answered, and an
    answer may be under way (see :mod:`interlock.machine.session.refresh_tokens`).
    """

    idle_timeout_ms: int
    absolute_timeout_ms: int
    connection_limit: int
    refresh_grace_ms: int


class Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Begin an anonymous session under ``policy``."""

    event: ClassVar[str] = "create"
    policy: Policy


Age: TypeAlias = Annotated[int, Meta(ge=0)]
"""How long before, in milliseconds."""

Epoch: TypeAlias = Annotated[int, Meta(ge=0)]
"""How often rights were taken away from what went before."""


class Authenticate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``subject`` (an account id) has proved who they are by ``method``.

    ``proof_age_ms``: how long before, where somebody else took the proof; None when nobody knows. Left out: just now.
    ``account_epoch``: that of the account as the proof was taken. Left out: 0.
    """

    event: ClassVar[str] = "authenticate"
    subject: str
    method: str
    proof_age_ms: Age | None = 0
    account_epoch: Epoch = 0


class Reauthenticate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``subject`` has proved again who they are; the epoch rises, so older tokens stop working.

    ``proof_age_ms``, ``account_epoch``: see :class:`Authenticate`.
    """

    event: ClassVar[str] = "reauthenticate"
    subject: str
    method: str
    proof_age_ms: Age | None = 0
    account_epoch: Epoch = 0


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connection ``connection_id`` opens on server ``node``."""

    event: ClassVar[str] = "connect"
    connection_id: str
    node: str


class Disconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connection ``connection_id`` is gone. ``code`` is its WebSocket close code; 1006 when nobody saw it close."""

    event: ClassVar[str] = "disconnect"
    connection_id: str
    code: int


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verified refresh token of this ``epoch`` and ``rotation`` was presented."""

    event: ClassVar[str] = "refresh"
    epoch: int
    rotation: int


class Touch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The client did something that counts as activity."""

    event: ClassVar[str] = "touch"


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End the session for ``reason``."""

    event: ClassVar[str] = "revoke"
    reason: RevocationReason


class Expire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Write down that a deadline has passed; ``reason`` says which."""

    event: ClassVar[str] = "expire"
    reason: ExpiryReason


Data: TypeAlias = Create | Authenticate | Reauthenticate | Connect | Disconnect | Refresh | Touch | Revoke | Expire
