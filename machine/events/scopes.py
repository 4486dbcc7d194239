"""Scopes: which records a subscriber or a webhook learns of.

A scope is a text: ``session-ends``, ``executions:`` followed by a realm's name, or ``all``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from interlock.machine.errors import SettingsError
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Transition
from interlock.machine.session.machine import SESSION_MACHINE

_PATTERN: Final = r"^(session-ends|executions:[a-z][a-z0-9_-]{0,31}|all)\Z"

ScopeText: TypeAlias = Annotated[str, Meta(pattern=_PATTERN)]

_SESSION_ENDS: Final = "session-ends"
_ALL: Final = "all"
_REALM: Final = "executions:"


class Scopes:
    """Several scopes together: a record is covered if one of them covers it."""

    def __init__(self, texts: Iterable[ScopeText]) -> None:
        given = frozenset(texts)
        self._all: Final = _ALL in given
        self._session_ends: Final = self._all or _SESSION_ENDS in given
        self._realms: Final = frozenset(text.removeprefix(_REALM) for text in given if text.startswith(_REALM))

    def may_cover(self, transition: Transition) -> bool:
        """Return whether ``transition`` may be covered. Of an execution, this is so for every realm if it is for one."""
        if self._all:
            return True
        if transition.kind == EXECUTION_MACHINE.kind:
            return bool(self._realms)
        return self._session_ends and is_session_end(transition)

    def cover_realm(self, realm: str | None) -> bool:
        """Return whether records of executions of ``realm`` are covered; for records of other kinds it is None."""
        return self._all or realm is None or realm in self._realms


def checked_scopes(texts: Iterable[str]) -> tuple[ScopeText, ...]:
    """Return the scopes ``texts``, each once, in order.

    Raises:
        SettingsError: one of them is not a scope.
    """
    scopes = tuple(sorted(set(texts)))
    if not all(re.match(_PATTERN, scope) for scope in scopes):
        raise SettingsError("a scope is session-ends, executions:REALM, or all")
    return scopes


def is_session_end(transition: Transition) -> bool:
    """Return whether ``transition`` ended a session."""
    return transition.kind == SESSION_MACHINE.kind and transition.target in SESSION_MACHINE.final
