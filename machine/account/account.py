"""One account: its fields, its guard, and ``evolve``, which applies a recorded transition to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from interlock.machine.account.commitments import Commitment
from interlock.machine.machine import Keys, Transition, after


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one account after ``version`` transitions. Times are integer milliseconds since the Unix epoch.

    ``state`` is None at version 0, before ``register``. ``epoch`` rises with each change of the password, disable and delete;
    sessions of an older epoch are refused. ``email``, ``password`` and ``identity`` are commitments, None if the account has
    no such value. ``disabled_at_ms`` is when the account was disabled, None while it is not. ``reset_code`` is a commitment
    to the unused code that was issued last, which is valid before ``reset_until_ms``.
    """

    account_id: str
    state: str | None = None
    version: int = 0
    epoch: int = 0
    email: Commitment | None = None
    password: Commitment | None = None
    identity: Commitment | None = None
    groups: tuple[str, ...] = ()
    created_at_ms: int = 0
    updated_at_ms: int = 0
    password_changed_at_ms: int = 0
    disabled_at_ms: int | None = None
    reset_code: Commitment | None = None
    reset_until_ms: int = 0


def _current_password(account: Account, data: Any, _now_ms: int) -> bool:
    return bool(data.current == account.password)


def has_reset_code(account: Account, code: Commitment, now_ms: int) -> bool:
    """Return whether ``code`` is the account's unused reset code, and valid at this time."""
    return code == account.reset_code and now_ms < account.reset_until_ms


GUARDS: Final[dict[str, Callable[[Account, Any, int], bool]]] = {
    "current_password": _current_password,
    "has_password": lambda account, _data, _now_ms: account.password is not None,
    "reset_code": lambda account, data, now_ms: has_reset_code(account, data.code, now_ms),
}

RAISE_EPOCH: Final = ("change_password", "reset_password", "disable", "delete")
"""The events that raise the epoch, so that earlier sessions are refused."""


def keys(account: Account) -> Keys:
    """Return the fields of ``account`` that lists and conditions use."""
    return Keys(epoch=account.epoch)


def evolve(account: Account, transition: Transition) -> Account:
    """Return ``account`` after ``transition``. The caller passes decided transitions in version order."""
    changed = _CHANGED[transition.event](transition, transition.data)
    if transition.event in RAISE_EPOCH:
        # What takes rights away takes a code's too.
        changed |= {"epoch": account.epoch + 1, "reset_code": None, "reset_until_ms": 0}
    return after(account, transition, changed)


_CHANGED: Final[dict[str, Callable[[Transition, Any], dict[str, Any]]]] = {
    "register": lambda step, data: {
        "email": data.email,
        "password": data.password,
        "identity": data.identity,
        "groups": data.groups,
        "created_at_ms": step.at_ms,
        "password_changed_at_ms": step.at_ms,
    },
    "change_password": lambda step, data: {"password": data.new, "password_changed_at_ms": step.at_ms},
    "issue_reset_code": lambda _, data: {"reset_code": data.code, "reset_until_ms": data.until_ms},
    "reset_password": lambda step, data: {"password": data.new, "password_changed_at_ms": step.at_ms},
    "rehash": lambda _, data: {"password": data.new},
    "set_groups": lambda _, data: {"groups": data.groups},
    "disable": lambda step, _: {"disabled_at_ms": step.at_ms},
    "enable": lambda _step, _data: {"disabled_at_ms": None},
    "delete": lambda _step, _data: {"email": None, "password": None, "identity": None, "groups": ()},
}
