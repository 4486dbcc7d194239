"""The account lifecycle as a runnable :class:`Machine`."""

from __future__ import annotations

from typing import Final, get_args

from interlock.machine.account.account import GUARDS, RAISE_EPOCH, Account, evolve, keys
from interlock.machine.account.commands import Data
from interlock.machine.account.words import WORDS
from interlock.machine.errors import AccountDisabled, CredentialInvalid, SessionEnded
from interlock.machine.machine import Authority, Machine
from interlock.machine.session.commands import RevocationReason
from interlock.spec.lifecycles import ACCOUNT


def ensure_active(account: Account) -> None:
    """Check that ``account`` is active. Call it only after the caller has authenticated as its owner.

    Raises:
        AccountDisabled: an administrator has disabled the account.
        CredentialInvalid: the account was deleted or never registered.
    """
    if account.state == "disabled":
        raise AccountDisabled("an administrator has disabled this account")
    if account.state != "active":
        raise CredentialInvalid("the account does not exist any more")


def ensure_serves(account: Account, epoch: int) -> None:
    """Check that a session granted under ``epoch`` of ``account`` may still be used, whether or not its end is recorded.

    Raises:
        SessionEnded: the session may not be used; the error carries the reason.
    """
    if account.state != "active" or epoch != account.epoch:
        raise SessionEnded(why_superseded(account))


def why_superseded(account: Account) -> RevocationReason:
    """Return the reason for ending a session that the current state of ``account`` no longer allows."""
    match account.state:
        case "active":
            return "password_changed"
        case "disabled":
            return "account_disabled"
    return "account_deleted"


def _authorise(account: Account, epoch: int | None, _now_ms: int) -> None:
    ensure_active(account)
    if epoch is not None and epoch != account.epoch:
        raise CredentialInvalid("the password was changed, or the account was disabled, since it was proved")


def authority_of(account: Account) -> Authority:
    """Return the authority of ``account``. A password change, disable or delete makes the log refuse records under it."""
    return Authority(ACCOUNT_MACHINE.kind, account.account_id, account.epoch)


ACCOUNT_MACHINE: Final = Machine(
    ACCOUNT,
    Account,
    get_args(Data),
    evolve,
    GUARDS,
    keys=keys,
    counts={"epoch": RAISE_EPOCH},
    essential=("change_password", "reset_password", "disable"),
    words=WORDS,
    authorise=_authorise,
    lasting=True,
)
