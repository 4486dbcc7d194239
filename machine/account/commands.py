"""The commands of an account: one data structure per declared event.

The data is recorded with the transition unchanged, so it must hold nothing secret or personal. An email address, a password
hash, an identity at a provider or a reset code appears only as a commitment (see :mod:`interlock.machine.account.commitments`).

``address`` is the client address of an administrator's request (ASVS 16.2.1), None if unknown.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

from interlock.machine.account.commitments import Commitment


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Register(_Data, frozen=True):
    """Create an account, with an ``email`` and a ``password`` or with an ``identity`` at a provider."""

    event: ClassVar[str] = "register"
    email: Commitment | None = None
    password: Commitment | None = None
    identity: Commitment | None = None
    groups: tuple[str, ...] = ()


class ChangePassword(_Data, frozen=True):
    """Replace the ``current`` password by a ``new`` one. The epoch rises, so sessions of the old password are refused."""

    event: ClassVar[str] = "change_password"
    current: Commitment
    new: Commitment


class Rehash(_Data, frozen=True):
    """Replace the ``current`` hash by a ``new`` one of the same password."""

    event: ClassVar[str] = "rehash"
    current: Commitment
    new: Commitment


class IssueResetCode(_Data, frozen=True):
    """Let the holder of ``code`` set another password before ``until_ms``. It replaces a code that was issued before."""

    event: ClassVar[str] = "issue_reset_code"
    code: Commitment
    until_ms: int
    address: str | None = None


class ResetPassword(_Data, frozen=True):
    """Replace the password by a ``new`` one, and use up ``code``. The epoch rises, so all earlier sessions are refused."""

    event: ClassVar[str] = "reset_password"
    code: Commitment
    new: Commitment


class SetGroups(_Data, frozen=True):
    """Replace the groups."""

    event: ClassVar[str] = "set_groups"
    groups: tuple[str, ...]
    address: str | None = None


class Disable(_Data, frozen=True):
    """Refuse all logins. The epoch rises, so earlier sessions stay refused even after an enable."""

    event: ClassVar[str] = "disable"
    address: str | None = None


class Enable(_Data, frozen=True):
    """Allow logins again."""

    event: ClassVar[str] = "enable"
    address: str | None = None


class Delete(_Data, frozen=True):
    """End the account. Its personal data is erased in the same transaction."""

    event: ClassVar[str] = "delete"
    address: str | None = None


Data: TypeAlias = (
    Register | ChangePassword | Rehash | IssueResetCode | ResetPassword | SetGroups | Disable | Enable | Delete
)
