"""What may be asked of an account: one data structure per declared event.

The data is recorded with the transition as it stands, so it holds nothing secret and nothing personal: of an email address, a
password hash or an identity at a provider only a commitment (see :mod:`interlock.machine.account.commitments`).

``address``, of an administrator's request, says where it came from (ASVS 16.2.1), if known.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

from interlock.machine.account.commitments import Commitment


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Register(_Data, frozen=True):
    """Begin an account: with an ``email`` and a ``password``, or with an ``identity`` at a provider."""

    event: ClassVar[str] = "register"
    email: Commitment | None = None
    password: Commitment | None = None
    identity: Commitment | None = None
    groups: tuple[str, ...] = ()


class ChangePassword(_Data, frozen=True):
    """Replace the ``current`` password by a ``new`` one; the epoch rises, so sessions of the old one no longer serve."""

    event: ClassVar[str] = "change_password"
    current: Commitment
    new: Commitment


class Rehash(_Data, frozen=True):
    """Replace the ``current`` hash by a ``new`` one of the same password."""

    event: ClassVar[str] = "rehash"
    current: Commitment
    new: Commitment


class SetGroups(_Data, frozen=True):
    """Replace the groups."""

    event: ClassVar[str] = "set_groups"
    groups: tuple[str, ...]
    address: str | None = None


class Disable(_Data, frozen=True):
    """Keep everybody out; the epoch rises, so no session of before serves, also not after an enable."""

    event: ClassVar[str] = "disable"
    address: str | None = None


class Enable(_Data, frozen=True):
    """Let the owner log in again."""

    event: ClassVar[str] = "enable"
    address: str | None = None


class Delete(_Data, frozen=True):
    """End the account. Its personal data is erased in the same transaction."""

    event: ClassVar[str] = "delete"
    address: str | None = None


Data: TypeAlias = Register | ChangePassword | Rehash | SetGroups | Disable | Enable | Delete
