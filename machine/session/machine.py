"""The session's lifecycle, ready to run."""

from __future__ import annotations

from typing import Final, get_args

from interlock.machine.errors import SessionNotFound, SessionUnusable
from interlock.machine.machine import Machine
from interlock.machine.session.commands import Data
from interlock.machine.session.session import GUARDS, Session, ensure_alive, evolve, keys
from interlock.machine.session.words import WORDS
from interlock.spec.lifecycles import SESSION

_LOGINS: Final = ("authenticate", "reauthenticate")

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
)


def ensure_usable(session: Session, now_ms: int) -> None:
    """Check that ``session`` lives at ``now_ms`` and is in a state from which the declaration has ``touch``.

    Raises:
        SessionEnded: it does not live.
        SessionUnusable: it lives, and can only be ended in its state.
    """
    ensure_alive(session, now_ms)
    if not SESSION_MACHINE.table.declares(session.state, "touch"):
        raise SessionUnusable(session.session_id, session.state)
