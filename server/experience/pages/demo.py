"""The demo page: the tour of a session for people who would rather click. Off, unless the setting ``demo`` is on."""

from __future__ import annotations

from typing import Final

from litestar import get
from litestar.response import Template
from litestar.types import ControllerRouterHandler

from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.experience.pages.documents import page

_STATES: Final = [state.name for state in SESSION_MACHINE.lifecycle.states]


@get("/demo", include_in_schema=False, sync_to_thread=False)
def get_demo() -> Template:
    """Get the demo page."""
    return page("demo.html", states=_STATES)


HANDLERS: Final[list[ControllerRouterHandler]] = [get_demo]
