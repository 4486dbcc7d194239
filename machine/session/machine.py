"""The session lifecycle as a runnable :class:`Machine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

import msgspec

from interlock.machine.errors import CredentialRefused, SessionNotFound, SessionUnusable, TokenExpired
from interlock.machine.machine import Authority, Machine
from interlock.machine.session.commands import Data
from interlock.machine.session.session import GUARDS, Session, ensure_alive, evolve, keys
from interlock.machine.session.words import WORDS
from interlock.spec.lifecycles import ACCOUNT, SESSION

_LOGINS: Final = ("authenticate", "reauthenticate")


def ensure_usable(session: Session, now_ms: int) -> None:
    """Check that ``session`` is alive at ``now_ms`` and in a state from which the declaration has ``touch``.

    Raises:
        SessionEnded: the session is not alive.
        SessionUnusable: the session is alive, but its state allows only its end.
    """
    ensure_alive(session, now_ms)
    if not SESSION_MACHINE.table.declares(session.state, "touch"):
        raise SessionUnusable(session.session_id, session.state)


def ensure_authority(
    session: Session,
    epoch: int | None,
    now_ms: int,
    *,
    superseded: type[CredentialRefused] = TokenExpired,
    check: Callable[[Session, int], None] = ensure_usable,
) -> None:
    """Check that a credential of ``session``, issued at ``epoch``, is valid at ``now_ms``. All kinds of credential use this.

    An ``epoch`` of None accepts any epoch. ``superseded`` is the error to raise for a credential of an older epoch.

    Raises:
        SessionEnded, SessionUnusable: as ``check`` raises.
        CredentialRefused: of type ``superseded``; a later login has superseded the credential.
    """
    check(session, now_ms)
    if epoch is not None and epoch != session.epoch:
        raise superseded("the credential was superseded by a later login")


def authority_of(session: Session) -> Authority:
    """Return the authority of ``session`` at its present epoch, which rests on its account's at the epoch of the login.

    The next login, the session's end, and a password change, disable or delete of the account make the log refuse records.
    """
    account = None
    if session.subject is not None:
        account = Authority(ACCOUNT.name, session.subject, session.account_epoch)
    return Authority(SESSION_MACHINE.kind, session.session_id, session.epoch, account)


def authority_in(session: Session) -> Authority:
    """Return the authority of ``session`` at any epoch of its own, for what was accepted at an earlier one.

    A later login on the session changes nothing. Its end, and whatever ends the rights of its account's login, do.
    """
    return msgspec.structs.replace(authority_of(session), epoch=None)


SESSION_MACHINE: Final = Machine(
    SESSION,
    Session,
    get_args(Data),
    evolve,
    GUARDS,
    keys=keys,
    copied={"owner": dict.fromkeys(_LOGINS, "subject"), "reason": dict.fromkeys(("revoke", "expire"), "reason")},
    counts={"epoch": _LOGINS, "rotation": ("refresh",)},
    essential=("disconnect",),
    words=WORDS,
    not_found=SessionNotFound,
    authorise=ensure_authority,
)
