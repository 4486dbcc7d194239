"""Endpoints of administrators for webhooks: how each does, its dead letters, and what to do about them."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.events.deliveries import Pending
from interlock.machine.times import rfc3339
from interlock.server.experience.calls import LAST, NoFields, page, services_of
from interlock.server.experience.endpoints.administration.calls import ADMIN, Limit
from interlock.server.experience.guards import administrator
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.vocabulary import Position, Time
from interlock.server.runtime.events.delivery import Delivery
from interlock.server.runtime.events.webhooks import WebhookStatus
from interlock.server.services import Services

_MOST: Final = 1000

Name = Annotated[str, Meta(examples=["billing"])]
Because = Annotated[str, Meta(examples=["it answered 500"])]


class WebhookView(msgspec.Struct, frozen=True):
    """A webhook. ``behind``: records of the log that it has not passed. ``waiting``: messages that are read and not delivered.

    ``failing``: why the last attempt failed, null after a success. ``disabled``: why nothing is sent, null while it is.
    """

    name: Name
    url: Annotated[str, Meta(examples=["https://example.org/hooks/interlock"])]
    scopes: Annotated[list[str], Meta(examples=[["session-ends"]])]
    created_at: Time
    cursor: Position
    behind: Annotated[int, Meta(examples=[0])]
    waiting: Annotated[int, Meta(examples=[0])]
    dead_letters: Annotated[int, Meta(examples=[0])]
    last_success_at: Time | None
    failing: Because | None
    disabled: Because | None
    disabled_at: Time | None


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was given up. ``session_id``: the session that it is of, or another instance."""

    position: Position
    session_id: Annotated[str, Meta(examples=["0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"])]
    attempts: Annotated[int, Meta(examples=[10])]
    first_attempt_at: Time
    last_attempt_at: Time
    because: Because


_Whole: TypeAlias = Annotated[float, Meta(ge=1, le=1 << 53, multiple_of=1)]
"""A whole number as JSON Schema reads it, for which 5.0 is one. Readers of JSON know larger ones only roughly (RFC 8259)."""


class ReplayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The positions of the dead letters to replay; all, if not given."""

    positions: Annotated[list[_Whole], Meta(max_length=_MOST, examples=[[41]])] | None = None


class Replayed(msgspec.Struct, frozen=True):
    """How many dead letters are sent again."""

    replayed: Annotated[int, Meta(examples=[1])]


@get("/webhooks", summary="Webhooks", responses=responses(*ADMIN), guards=[administrator])
async def list_webhooks(request: Request[Any, Any, Any]) -> list[WebhookView]:
    """List all webhooks, and how each does."""
    return [_view(each) for each in services_of(request).webhooks.statuses()]


@get(
    "/webhooks/{name:str}/dead-letters",
    summary="Dead letters of a webhook",
    response_headers=may_send("Link"),
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def list_dead_letters(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    after: Annotated[int, QueryParameter(ge=0, le=LAST, description="Only those with a higher position.")] = 0,
    limit: Limit = 100,
) -> Response[list[DeadLetter]]:
    """List the messages that were given up, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    services = services_of(request)
    _known(services, name)
    found = await services.webhooks.dead_letters(name, after, limit)
    path = f"/api/admin/webhooks/{name}/dead-letters"
    return page(path, found, limit, _dead_letter, lambda last: {"after": last.position})


@post(
    "/webhooks/{name:str}/replay",
    summary="Replay dead letters",
    status_code=200,
    responses=responses(400, 404, 413, 415, *ADMIN),
    guards=[administrator],
)
async def replay_dead_letters(
    request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[ReplayBody | None] = None
) -> Replayed:
    """Send dead letters again, as if they had not been tried, each before what waits of its session."""
    delivery = _known(services_of(request), name)
    positions = None if data is None or data.positions is None else [int(each) for each in data.positions]
    return Replayed(await delivery.replay(positions))


@post(
    "/webhooks/{name:str}/enable",
    summary="Enable a webhook",
    status_code=200,
    responses=responses(400, 404, 413, 415, *ADMIN),
    guards=[administrator],
)
async def enable_webhook(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> WebhookView:
    """Send again, after the webhook was disabled: from where it was, so nothing is missing."""
    services = services_of(request)
    await _known(services, name).enable()
    return next(_view(each) for each in services.webhooks.statuses() if each.name == name)


def _known(services: Services, name: str) -> Delivery:
    """Return the delivery to the webhook ``name``.

    Raises:
        RequestRefused: there is no such webhook.
    """
    delivery = services.webhooks.delivery(name)
    if delivery is None:
        raise RequestRefused(404, "no such webhook")
    return delivery


def _view(status: WebhookStatus) -> WebhookView:
    state, webhook = status.state, status.webhook
    return WebhookView(
        status.name,
        webhook.url,
        list(webhook.scopes),
        rfc3339(webhook.created_at_ms),
        state.cursor,
        status.behind,
        status.waiting,
        status.dead,
        rfc3339(state.last_success_ms) if state.last_success_ms else None,
        status.failing,
        state.disabled,
        None if state.disabled_at_ms is None else rfc3339(state.disabled_at_ms),
    )


def _dead_letter(pending: Pending) -> DeadLetter:
    return DeadLetter(
        pending.position,
        pending.key,
        pending.attempts,
        rfc3339(pending.first_at_ms),
        rfc3339(pending.last_at_ms),
        pending.because,
    )


HANDLERS: Final[list[ControllerRouterHandler]] = [list_webhooks, list_dead_letters, replay_dead_letters, enable_webhook]
