"""Webhooks in the console: how each does, its dead letters, and what an operator may do about them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Template
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.times import rfc3339
from interlock.server.experience.calls import LAST, services_of
from interlock.server.experience.console.access import acting, looking, see_other
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.console.shown import shown
from interlock.server.experience.problems import RequestRefused
from interlock.server.runtime.events.delivery import Delivery
from interlock.server.services import Services

_ROOT: Final = "/console/webhooks"
_ONE: Final = "/console/webhooks/{name:str}"
_PAGE: Final = 50


class DeadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The position after which dead letters are listed."""

    after: Annotated[int, Meta(ge=0, le=LAST)] = 0


@get(_ROOT, guards=[looking], include_in_schema=False)
async def list_webhooks(request: Request[Any, Any, Any]) -> Template:
    """Get all webhooks."""
    statuses = services_of(request).webhooks.statuses()
    return await shown(request, "console/webhooks.html", "webhooks", statuses=statuses, rfc3339=rfc3339)


@get(_ONE, guards=[looking], include_in_schema=False)
async def get_webhook(request: Request[Any, Any, Any], name: FromPath[str]) -> Template:
    """Get a webhook and a page of its dead letters, oldest first."""
    services, query = services_of(request), read_query(request, DeadQuery)
    _known(services, name)
    status = next(each for each in services.webhooks.statuses() if each.name == name)
    letters = await services.webhooks.dead_letters(name, query.after, _PAGE)
    more = f"{_ROOT}/{name}?after={letters[-1].position}" if len(letters) == _PAGE else ""
    return await shown(
        request, "console/webhook.html", "webhooks", status=status, letters=letters, more=more, rfc3339=rfc3339
    )


@post(f"{_ONE}/replay", guards=[acting], status_code=303, include_in_schema=False)
async def replay(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
    """Send all dead letters of a webhook again."""
    await _known(services_of(request), name).replay(None)
    return see_other(f"{_ROOT}/{name}")


@post(f"{_ONE}/enable", guards=[acting], status_code=303, include_in_schema=False)
async def enable(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
    """Send again to a webhook that was disabled."""
    await _known(services_of(request), name).enable()
    return see_other(f"{_ROOT}/{name}")


def _known(services: Services, name: str) -> Delivery:
    delivery = services.webhooks.delivery(name)
    if delivery is None:
        raise RequestRefused(404, "no such webhook")
    return delivery


HANDLERS: Final[list[ControllerRouterHandler]] = [list_webhooks, get_webhook, replay, enable]
QUERIES: Final = {"/console/webhooks/{name}": DeadQuery}
