"""Texts about accounts for people: why a guard failed, what a record says, and the account's state at a given time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interlock.machine.account.account import Account
from interlock.machine.account.commands import (
    ChangePassword,
    Data,
    Delete,
    Disable,
    Enable,
    IssueResetCode,
    Register,
    Rehash,
    ResetPassword,
    SetGroups,
)
from interlock.machine.machine import Words
from interlock.machine.times import rfc3339

_NONE: Final = "A" * 43
"""A well-formed commitment that matches no value."""


def _password(account: Account, _data: Any) -> str:
    return "the account has another password" if account.password else "the account has no password"


def _no_password(_account: Account, _data: Any) -> str:
    return "the account has no password: its owner logs in with an identity provider"


def _code(account: Account, _data: Any) -> str:
    if account.reset_code is None:
        return "no reset code of the account is unused"
    return f"the account has another reset code, or one that was valid until {rfc3339(account.reset_until_ms)}"


def _registered(data: Register, _before: Account) -> str:
    how = "an email address and a password" if data.password else "an identity at a provider"
    return f"with {how}, {_groups(data)}"


def _groups(data: Register | SetGroups) -> str:
    return f"in {', '.join(data.groups)}" if data.groups else "in no group"


def _raised(data: ChangePassword | ResetPassword | Disable | Delete, before: Account) -> str:
    raised = f"epoch {before.epoch + 1}"
    return raised if isinstance(data, ChangePassword | ResetPassword) else _joined(raised, _asked(data, before))


def _issued(data: IssueResetCode, before: Account) -> str:
    return _joined(f"valid until {rfc3339(data.until_ms)}", _asked(data, before))


def _asked(data: IssueResetCode | SetGroups | Disable | Enable | Delete, _before: Account) -> str:
    return f"asked from {data.address}" if data.address else ""


def _set(data: SetGroups, before: Account) -> str:
    return _joined(_groups(data), _asked(data, before))


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


_PARTICULARS: Final[dict[str, Callable[[Any, Account], str]]] = {
    "register": _registered,
    "change_password": _raised,
    "issue_reset_code": _issued,
    "reset_password": _raised,
    "set_groups": _set,
    "disable": _raised,
    "enable": _asked,
    "delete": _raised,
}

_LIKELY: Final[dict[str, Callable[[Account, int], Data]]] = {
    "register": lambda _account, _: Register(email=_NONE, password=_NONE),
    "change_password": lambda account, _: ChangePassword(account.password or _NONE, _NONE),
    "rehash": lambda account, _: Rehash(account.password or _NONE, _NONE),
    "issue_reset_code": lambda _account, now_ms: IssueResetCode(_NONE, now_ms + 1),
    "reset_password": lambda account, _: ResetPassword(account.reset_code or _NONE, _NONE),
    "set_groups": lambda account, _: SetGroups(account.groups),
    "disable": lambda _account, _: Disable(),
    "enable": lambda _account, _: Enable(),
    "delete": lambda _account, _: Delete(),
}


def _stands(account: Account, _now_ms: int) -> dict[str, Any]:
    return {
        "groups": account.groups,
        "epoch": account.epoch,
        "has_password": account.password is not None,
        "has_identity": account.identity is not None,
        "password_changed_at": rfc3339(account.password_changed_at_ms) if account.password else None,
        "reset_code_until": rfc3339(account.reset_until_ms) if account.reset_code else None,
        "disabled_at": None if account.disabled_at_ms is None else rfc3339(account.disabled_at_ms),
    }


WORDS: Final = Words(
    {"current_password": _password, "has_password": _no_password, "reset_code": _code}, _PARTICULARS, _LIKELY, _stands
)
