"""The guards and the fold of a session, implemented a second time from their descriptions alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from interlock.spec.model.trace.session_rules import Fold

_FORGET_EVERY: Final = 64
"""How often, in exchanges, old data is dropped. Dropping it after each would take longer than everything else."""

GUARDS: Final[dict[str, Callable[[Fold, dict[str, Any], int], bool]]] = {
    "alive": lambda fold, _, at_ms: at_ms < fold.idle_deadline_ms and at_ms < fold.absolute_deadline_ms,
    "same_subject": lambda fold, data, _: data["subject"] == fold.subject,
    "below_connection_limit": lambda fold, _, __: len(fold.owners) < fold.policy["connection_limit"],
    "known_connection": lambda fold, data, _: data["connection_id"] in fold.owners,
    "last_connection": lambda fold, _, __: len(fold.owners) == 1,
    "rotation_honoured": lambda fold, data, at_ms: (
        data["epoch"] == fold.epoch and data["rotation"] in fold.issued and _held(fold, data["rotation"], at_ms)
    ),
}
"""Each declared guard over the fold, the data and the time, implemented from its description, not from the machine."""


def _held(fold: Fold, rotation: int, at_ms: int) -> bool:
    """Return whether one cookie jar may hold the token or have it under way: no other presented token contradicts it."""
    grace_ms = fold.policy["refresh_grace_ms"]
    issued_ms, used_ms = fold.issued[rotation], None
    for other, when_ms, newest in fold.presented:
        if other == rotation:
            used_ms = when_ms if used_ms is None else used_ms
        elif rotation <= newest:
            under_way = when_ms < issued_ms + grace_ms and (used_ms is None or used_ms > fold.issued[other])
            if not under_way and at_ms >= fold.issued[other] + grace_ms:
                return False
    return True


def _created(fold: Fold, data: dict[str, Any], at_ms: int) -> None:
    fold.policy = data["policy"]
    _issue_first(fold, at_ms)
    _restart_clocks(fold, at_ms)


def _authenticated(fold: Fold, data: dict[str, Any], at_ms: int) -> None:
    fold.subject = data["subject"]
    fold.epoch += 1
    _issue_first(fold, at_ms)
    _restart_clocks(fold, at_ms)


def _issue_first(fold: Fold, at_ms: int) -> None:
    fold.issued = {fold.rotation: at_ms}
    fold.presented = []


def _restart_clocks(fold: Fold, at_ms: int) -> None:
    fold.absolute_deadline_ms = at_ms + fold.policy["absolute_timeout_ms"]
    _touched(fold, {}, at_ms)


def _touched(fold: Fold, _data: dict[str, Any], at_ms: int) -> None:
    fold.idle_deadline_ms = at_ms + fold.policy["idle_timeout_ms"]


def _refreshed(fold: Fold, data: dict[str, Any], at_ms: int) -> None:
    fold.presented.append((data["rotation"], at_ms, fold.rotation))
    fold.rotation += 1
    fold.issued[fold.rotation] = at_ms
    if fold.rotation % _FORGET_EVERY == 0:
        _forget(fold, at_ms)


def _forget(fold: Fold, at_ms: int) -> None:
    """Drop tokens that no one can hold any more, and presentations that no guard will use: those before the rest was issued."""
    held = {rotation for rotation in fold.issued if _held(fold, rotation, at_ms)}
    fold.presented = [each for each in fold.presented if each[2] >= min(held)]
    known = held.union(rotation for rotation, *_ in fold.presented)
    fold.issued = {rotation: when_ms for rotation, when_ms in fold.issued.items() if rotation in known}


FOLDS: Final[dict[str, Callable[[Fold, dict[str, Any], int], None]]] = {
    "create": _created,
    "authenticate": _authenticated,
    "reauthenticate": _authenticated,
    "touch": _touched,
    "refresh": _refreshed,
}
"""How an event's data changes the fold. The other events change only state and owners."""
