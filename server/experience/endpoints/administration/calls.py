"""Shared parts of the endpoints of administrators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from litestar import Request, Response
from litestar.params import QueryParameter

from interlock.machine.errors import AdminCredentialInvalid, AdminCredentialMissing, InstanceNotFound, Overloaded
from interlock.machine.ledger import Record
from interlock.machine.machine import Instance
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.admission import address_of
from interlock.server.experience.calls import LAST, format_cursor, page, services_of
from interlock.server.experience.problems import RequestRefused
from interlock.server.runtime.accounts.administration import Caller, InstanceFilter

T = TypeVar("T", bound=Instance)
V = TypeVar("V")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

ADMIN: Final = (AdminCredentialMissing, AdminCredentialInvalid, Overloaded)
"""Errors of any call by an administrator."""

ADMIN_SECURITY: Final[list[dict[str, list[str]]]] = [{"admin": []}]

MAX_PAGE: Final = 1000

AfterVersion = Annotated[int, QueryParameter(ge=0, le=LAST, description="Only transitions with a higher version.")]
Subject = Annotated[str | None, QueryParameter(max_length=64, description="Only what belongs to this account.")]
CreatedFrom = Annotated[str | None, QueryParameter(format="date-time", description="Created at or after this time.")]
CreatedTo = Annotated[str | None, QueryParameter(format="date-time", description="Created before this time.")]
UpdatedFrom = Annotated[
    str | None, QueryParameter(format="date-time", description="Last changed at or after this time.")
]
UpdatedTo = Annotated[str | None, QueryParameter(format="date-time", description="Last changed before this time.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Maximum number of items.")]


def acting(request: Request[Any, Any, Any]) -> Caller:
    """Return the caller, and its address, for the record of a call that changes something."""
    secret = request.user
    return Caller(secret.actor, address_of(request.scope), partial(services_of(request).secret_records.acting, secret))


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


def instance_filter(
    state: str | None,
    owner: str | None,
    reason: str | None,
    created: tuple[str | None, str | None],
    updated: tuple[str | None, str | None],
) -> InstanceFilter:
    """Return the filter for the query parameters of a list, of which ``created`` and ``updated`` are ranges of times.

    Raises:
        RequestRefused: a time is malformed, or the ranges do not go together.
    """
    created_ms = [_ms(f"created_{end}", text) for end, text in zip(("from", "to"), created, strict=True)]
    updated_ms = [_ms(f"updated_{end}", text) for end, text in zip(("from", "to"), updated, strict=True)]
    wanted = InstanceFilter(state, owner, reason, *created_ms, *updated_ms)
    if wanted.of_creation and wanted.by_update:
        raise RequestRefused(422, "ranges of created and of updated go together only with a subject")
    return wanted


def filtered_page(
    request: Request[Any, Any, Any], found: Sequence[T], limit: int, view: Callable[[T], V], wanted: InstanceFilter
) -> Response[list[V]]:
    """Return a page of the list that ``request`` asks for with the filter ``wanted``."""
    filters = dict(request.query_params.items())
    return page(
        request.scope["path_template"],
        found,
        limit,
        view,
        lambda last: filters | {"after": format_cursor(wanted.cursor_of(last))},
    )


def _ms(name: str, text: str | None) -> int | None:
    """Parse the RFC 3339 time ``text`` of the parameter ``name``, and return it in ms.

    Raises:
        RequestRefused: it is not such a time.
    """
    if text is None:
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError):  # a TypeError if it has no time zone
        raise RequestRefused(400, f"{name} is a time with its time zone, such as 2026-01-23T09:30:00Z") from None


def history_page(of: str, records: Sequence[Record], limit: int) -> Response[list[TransitionView]]:
    """Return a page of the history of ``of``, a path below ``/api/admin``."""
    return page(
        f"/api/admin/{of}/transitions",
        records,
        limit,
        transition_view,
        lambda last: {"after_version": last.transition.version},
    )
