"""What the guards ask of a session, and what each event changes of it: a second writing, from the descriptions alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from spec.model.rules import Fold

GUARDS: Final[dict[str, Callable[[Fold, dict[str, Any], int], bool]]] = {
    "alive": lambda fold, _, at_ms: at_ms < fold.idle_deadline_ms and at_ms < fold.absolute_deadline_ms,
    "same_subject": lambda fold, data, _: data["subject"] == fold.subject,
    "below_connection_limit": lambda fold, _, __: len(fold.owners) < fold.policy["connection_limit"],
    "known_connection": lambda fold, data, _: data["connection_id"] in fold.owners,
    "last_connection": lambda fold, _, __: len(fold.owners) == 1,
    "rotation_current": lambda fold, data, _: (data["epoch"], data["rotation"]) == (fold.epoch, fold.rotation),
}
"""Each declared guard over the fold, the data and the time: written from its description, not from the machine."""


def _created(fold: Fold, data: dict[str, Any], at_ms: int) -> None:
    fold.policy = data["policy"]
    _restart_clocks(fold, at_ms)


def _authenticated(fold: Fold, data: dict[str, Any], at_ms: int) -> None:
    fold.subject = data["subject"]
    fold.epoch += 1
    _restart_clocks(fold, at_ms)


def _restart_clocks(fold: Fold, at_ms: int) -> None:
    fold.absolute_deadline_ms = at_ms + fold.policy["absolute_timeout_ms"]
    _touched(fold, {}, at_ms)


def _touched(fold: Fold, _data: dict[str, Any], at_ms: int) -> None:
    fold.idle_deadline_ms = at_ms + fold.policy["idle_timeout_ms"]


def _refreshed(fold: Fold, _data: dict[str, Any], _at_ms: int) -> None:
    fold.rotation += 1


FOLDS: Final[dict[str, Callable[[Fold, dict[str, Any], int], None]]] = {
    "create": _created,
    "authenticate": _authenticated,
    "reauthenticate": _authenticated,
    "touch": _touched,
    "refresh": _refreshed,
}
"""What the data of an event changes of the fold; the others change state and owners alone."""
