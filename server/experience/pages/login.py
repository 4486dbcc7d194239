"""The login page: where a proxy sends a browser whose request forward-auth refused.

It also is the way in for links from other sites. Browsers send no ``SameSite=Strict`` cookie with those, so a logged-in user
arrives here. The page's own requests carry the cookie, and it goes on at once.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, get
from litestar.response import Template
from litestar.types import ControllerRouterHandler

from interlock.server.experience.calls import wired_services
from interlock.server.experience.credentials import header
from interlock.server.experience.middleware.queries import ANY_QUERY
from interlock.server.experience.pages.documents import page
from interlock.server.experience.pages.next_page import asked_for, next_page
from interlock.server.experience.problems import RequestRefused


@get("/login", include_in_schema=False, sync_to_thread=False, opt={ANY_QUERY: True})
def get_login(request: Request[Any, Any, Any]) -> Template:
    """Get the page, which leads to `next` afterwards.

    Raises:
        RequestRefused: the query is not `next` and its value.
    """
    settings, scope = wired_services(request).settings, request.scope
    wanted = asked_for(scope["query_string"])
    if wanted is None:
        raise RequestRefused(400, "unknown query parameter; this page takes next")
    return page("login.html", next=next_page(wanted, header(scope, b"host") or "", settings.origins))


HANDLERS: Final[list[ControllerRouterHandler]] = [get_login]
