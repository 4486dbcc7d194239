from __future__ import annotations

import inspect

import pytest

from interlock.machine import errors
from interlock.machine.errors import (
    CredentialInvalid,
    InterlockError,
    LedgerFault,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    StorageLow,
    TransitionRefused,
    VersionConflict,
)


def _drawn() -> dict[str, str]:
    """Return error → base, from the tree in the module's docstring."""
    path: list[str] = []
    bases: dict[str, str] = {}
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]  # it has one
        stem = line.lstrip(" │├└─")
        depth = (len(line) - len(stem)) // 4
        name = stem.split(" ")[0]
        if name in vars(errors):
            path[depth:] = [name]
            bases[name] = path[depth - 1] if depth else "Exception"
    return bases


def test_the_documented_error_tree_matches_the_classes() -> None:
    classes = {name: one for name, one in vars(errors).items() if inspect.isclass(one)}
    assert _drawn() == {name: one.__bases__[0].__name__ for name, one in classes.items()}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TransitionRefused("connect", "created"), "connect refused in state created: no such transition is declared"),
        (TransitionRefused("touch", None, "alive"), "touch refused in state (none): guard alive failed"),
        (SessionNotFound("s"), "Session not found"),
        (LedgerFault(7, "gap"), "record 7: gap"),
        (VersionConflict("s", 3), "version 3 of s is already taken"),
        (SessionEnded("logout"), "session ended: logout"),
        (Overloaded(), "too much work is waiting; try again later"),
        (StorageLow(), "the disk is nearly full; sessions can only be ended"),
        (CredentialInvalid("malformed"), "malformed"),
    ],
)
def test_the_texts_of_errors(error: InterlockError, text: str) -> None:
    assert str(error) == text


def test_the_attributes_of_errors() -> None:
    assert SessionNotFound("s").session_id == "s"
    assert (LedgerFault(7, "gap").position, LedgerFault(7, "gap").fault) == (7, "gap")
    assert (VersionConflict("s", 3).instance_id, VersionConflict("s", 3).version) == ("s", 3)
    assert SessionEnded("logout").reason == "logout"
    assert Overloaded(5).retry_after_s == 5
    assert StorageLow().retry_after_s == 60
