"""The Spin checks: for each the part of the model, the properties, the bounds and the assumptions."""

from __future__ import annotations

from typing import Final

import msgspec

from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SECRET, SESSION
from interlock.spec.model.bounds import ACCOUNT as ACCOUNT_BOUNDS
from interlock.spec.model.bounds import DURABILITY, LIVENESS, REPLAY, RESTING, ROTATION, SAFETY, THEFT, Bound
from interlock.spec.model.bounds import EXECUTION as EXECUTION_BOUNDS
from interlock.spec.model.bounds import SECRET as SECRET_BOUNDS
from interlock.spec.transitions import Lifecycle


class Check(msgspec.Struct, frozen=True):
    """One run of the checker.

    ``model`` is a file of this folder, and ``properties`` are names from :mod:`interlock.spec.properties`. ``switches`` are
    the macros that choose the variant. ``claim`` is the LTL formula of a liveness check, which has the property's name.
    ``untold`` are the steps that this check can't reach, for the reason in ``assumption``. ``covers`` is a lifecycle: the
    check fails unless executions record its every transition.
    """

    name: str
    model: str
    properties: tuple[str, ...]
    bounds: tuple[Bound, ...]
    assumption: str
    switches: tuple[str, ...] = ()
    claim: str | None = None
    untold: frozenset[str] = frozenset()
    covers: Lifecycle | None = None

    def defines(self, *, deep: bool) -> list[str]:
        """Return the macro definitions of this check."""
        return [f"{b.name}={b.deep if deep else b.quick}" for b in self.bounds] + list(self.switches)


_FAIR: Final = "Weak fairness of every task: what can go on for ever happens some time."


def _liveness(
    name: str,
    *switches: str,
    assumption: str = "",
    bounds: tuple[Bound, ...] = LIVENESS,
    untold: frozenset[str] = frozenset(),
) -> Check:
    return Check(name, "lifecycle.pml", (name,), bounds, f"{_FAIR} {assumption}".strip(), switches, name, untold)


CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "lifecycle",
        "lifecycle.pml",
        (
            "declared_only",
            "expired_absorbs",
            "authentication_first",
            "owner_coherence",
            "open_guard",
            "acknowledged_logged",
            "command_once",
            "no_lost_update",
            "single_owner",
            "view_monotonic",
            "no_early_expiry",
            "revocation_fence",
            "rotation",
        ),
        SAFETY,
        "None about timing: any task may be slow for ever. An intent's check and its effect are one step.",
        ("WITH_INTENTS",),
        covers=SESSION,
    ),
    Check(
        "replay",
        "lifecycle.pml",
        ("replay_equals_state", "cache_is_fold"),
        REPLAY,
        "None about timing.",
        ("KEEP_LOG",),
        covers=SESSION,
    ),
    Check(
        "account",
        "account.pml",
        (
            "declared_only",
            "deleted_absorbs",
            "authority_at_append",
            "disabled_never_serves",
            "old_password_never_admits",
            "overtaken_change_refused",
            "code_opens_once",
        ),
        ACCOUNT_BOUNDS,
        "None about timing. An append and its condition are one step, as in one transaction.",
        covers=ACCOUNT,
    ),
    Check(
        "secret",
        "secret.pml",
        ("declared_only", "removed_absorbs", "secrets_recorded", "authority_at_append"),
        SECRET_BOUNDS,
        "None about timing. An append and its condition are one step, as in one transaction.",
        covers=SECRET,
    ),
    Check(
        "execution",
        "execution.pml",
        (
            "declared_only",
            "accepted_once",
            "one_outcome",
            "no_execution_after_fence",
            "owner_only",
            "once_runs_once",
            "attempts_bounded",
            "committed_is_outcome",
            "outcome_reaches_client",
        ),
        EXECUTION_BOUNDS,
        "A server that has crashed starts again. Code that hangs runs out of time. Otherwise none about timing. An append and"
        " its condition are one step, as in one transaction; so are the answer of a realm's store and the record that follows.",
        covers=EXECUTION,
    ),
    Check(
        "rotation",
        "rotation.pml",
        ("rotation",),
        ROTATION,
        "An answer and a request that was sent before it came are under way for no longer than the grace; whoever holds a"
        " token may come back at any time.",
        untold=frozenset({"steal", "login", "turn_down", "reuse"}),
    ),
    Check(
        "theft",
        "rotation.pml",
        ("rotation",),
        THEFT,
        "As for rotation, of the owner's browser; the thief knows of every step. The owner is out of reach of it when two"
        " tokens were exchanged, each after all graces.",
        ("WITH_THIEF",),
    ),
    Check(
        "durability",
        "durability.pml",
        ("durability",),
        DURABILITY,
        "A disk keeps what a successful fsync covered; of the rest any part may be there. No bits flip.",
    ),
    _liveness("expires_or_renewed"),
    _liveness("expired_closes"),
    _liveness(
        "orphan_reaped",
        "WITHOUT_CLOCK",
        assumption="The clock stands still, or expiry would do the reaper's work.",
        untold=frozenset({"tick_"}),
    ),
    _liveness("views_catch_up", bounds=RESTING),
    _liveness("crashed_recovers"),
    _liveness(
        "command_answered", "WITH_PERSISTENT_CLIENT", assumption="The client goes on sending until it is answered."
    ),
)
