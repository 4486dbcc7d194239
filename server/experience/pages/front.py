"""The page at ``/``: what this server is, and where to go."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from litestar import get
from litestar.response import Template
from litestar.types import ControllerRouterHandler

from interlock.server.experience.pages.assets import assets_under
from interlock.server.experience.pages.documents import page


@get("/", include_in_schema=False, sync_to_thread=False)
def get_front() -> Template:
    """Get the page that says what this server is."""
    return page("front.html", version=version("interlock"))


HANDLERS: Final[list[ControllerRouterHandler]] = [
    get_front,
    assets_under("/static", Path(__file__).parent / "static"),
    assets_under("/client", Path(__file__).parents[1] / "client"),
]
