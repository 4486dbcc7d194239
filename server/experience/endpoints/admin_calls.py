"""What the endpoints of administrators have in common: who may call them, and how much they get at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import Request, Response
from litestar.params import QueryParameter

from interlock.machine.errors import AdminCredentialInvalid, AdminCredentialMissing, Overloaded
from interlock.machine.ledger import Record
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.admission import address_of
from interlock.server.experience.calls import page
from interlock.server.runtime.accounts.administration import Caller

ADMIN: Final = (AdminCredentialMissing, AdminCredentialInvalid, Overloaded)
"""What any call of an administrator may be refused for."""

ADMIN_SECURITY: Final[list[dict[str, list[str]]]] = [{"admin": []}]

MAX_PAGE: Final = 1000
LAST: Final = 2**53
"""Positions above it can't be said in JSON everywhere."""

AfterVersion = Annotated[int, QueryParameter(ge=0, le=LAST, description="Only transitions with a higher version.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Maximum number of items.")]


def acting(request: Request[Any, Any, Any]) -> Caller:
    """Return whom, and where from, the record of a call that changes something will name."""
    return Caller(request.user.actor, address_of(request.scope))


def history_page(of: str, records: Sequence[Record], limit: int) -> Response[list[TransitionView]]:
    """Return a page of the history of ``of``, a path below the administrators' own, in which more may follow."""
    return page(
        f"/api/admin/{of}/transitions",
        records,
        limit,
        transition_view,
        lambda last: {"after_version": last.transition.version},
    )
