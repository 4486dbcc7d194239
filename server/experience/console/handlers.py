"""The handlers of the console, and the query parameters that they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from litestar import Router

from interlock.server.experience.console import instances, lists, log, machine, sign_in, webhooks
from interlock.server.experience.console.access import handle
from interlock.server.experience.console.queries import queries_of_pages
from interlock.server.experience.middleware.queries import Queries
from interlock.server.experience.pages.assets import assets_under

_PARTS: Final[tuple[Any, ...]] = (sign_in, machine, lists, instances, log, webhooks)

QUERIES: Final[Queries] = queries_of_pages({path: query for part in _PARTS for path, query in part.QUERIES.items()})


def console_router() -> Router:
    """Return the router of the console."""
    return Router(
        "/",
        route_handlers=[
            *(handler for part in _PARTS for handler in part.HANDLERS),
            assets_under("/console/static", Path(__file__).parent / "static"),
        ],
        exception_handlers={Exception: handle},
    )
