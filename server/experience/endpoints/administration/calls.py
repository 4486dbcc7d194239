"""Shared parts of the endpoints of administrators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

from litestar import Request, Response
from litestar.params import QueryParameter

from interlock.machine.errors import AdminCredentialInvalid, AdminCredentialMissing, InstanceNotFound, Overloaded
from interlock.machine.ledger import Record
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.admission import address_of
from interlock.server.experience.calls import page
from interlock.server.experience.problems import RequestRefused
from interlock.server.runtime.accounts.administration import Caller

ADMIN: Final = (AdminCredentialMissing, AdminCredentialInvalid, Overloaded)
"""Errors of any call by an administrator."""

ADMIN_SECURITY: Final[list[dict[str, list[str]]]] = [{"admin": []}]

MAX_PAGE: Final = 1000
LAST: Final = 2**53
"""JSON numbers above this are not exact everywhere."""

AfterVersion = Annotated[int, QueryParameter(ge=0, le=LAST, description="Only transitions with a higher version.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Maximum number of items.")]


def acting(request: Request[Any, Any, Any]) -> Caller:
    """Return the caller, and its address, for the record of a call that changes something."""
    return Caller(request.user, address_of(request.scope))


@contextmanager
def known() -> Iterator[None]:
    """Answer with 404 if the body asks for an unknown session or account.

    Raises:
        RequestRefused: the id is unknown.
    """
    try:
        yield
    except InstanceNotFound as missing:
        raise RequestRefused(404, f"no such {missing.kind}") from None


def history_page(of: str, records: Sequence[Record], limit: int) -> Response[list[TransitionView]]:
    """Return a page of the history of ``of``, a path below ``/api/admin``."""
    return page(
        f"/api/admin/{of}/transitions",
        records,
        limit,
        transition_view,
        lambda last: {"after_version": last.transition.version},
    )
