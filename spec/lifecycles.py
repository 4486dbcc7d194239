"""Every declared lifecycle, read into rows once per process."""

from __future__ import annotations

from typing import Final

from statemachine.exceptions import InvalidDefinition

from interlock.spec.transitions import Lifecycle, UnsupportedDeclaration, read

try:
    from interlock.spec.session import SessionGuards, SessionLifecycle
except InvalidDefinition as error:  # pragma: no cover  # a test runs it in a copy of the source
    # python-statemachine refuses some of it by itself: a final state that is left, a state that can't be reached.
    raise UnsupportedDeclaration(
        f"spec/session.py: {error} (A final state that is left would break expired_absorbs: nothing follows the end of a"
        " session. Take its final=True away, too, and `interlock check` tells how.)"
    ) from None

SESSION: Final[Lifecycle] = read(SessionLifecycle, SessionGuards)
