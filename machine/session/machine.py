"""The session's lifecycle, ready to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from interlock.machine.errors import CredentialRefused, SessionNotFound, SessionUnusable, TokenExpired
from interlock.machine.machine import Authority, Machine
from interlock.machine.session.commands import Data
from interlock.machine.session.session import GUARDS, Session, ensure_alive, evolve, keys
from interlock.machine.session.words import WORDS
from interlock.spec.lifecycles import SESSION

_LOGINS: Final = ("authenticate", "reauthenticate")


def ensure_usable(session: Session, now_ms: int) -> None:
    """Check that ``session`` lives at ``now_ms`` and is in a state from which the declaration has ``touch``.

    Raises:
        SessionEnded: it does not live.
        SessionUnusable: it lives, and can only be ended in its state.
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
    """Check that a credential of ``session`` that was issued at ``epoch`` is good at ``now_ms``: the one rule for all of them.

    ``epoch`` None: one of any epoch. ``superseded``: what whoever has an older one is told.

    Raises:
        SessionEnded, SessionUnusable: what ``check`` finds.
        CredentialRefused: as ``superseded``; somebody has logged in since.
    """
    check(session, now_ms)
    if epoch is not None and epoch != session.epoch:
        raise superseded("the credential was superseded by a later login")


def authority_of(session: Session) -> Authority:
    """That of ``session`` as it stands: what is recorded under it is refused once somebody logs in on it, or it ends."""
    return Authority(SESSION_MACHINE.kind, session.session_id, session.epoch)


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
