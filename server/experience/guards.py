"""Litestar guards: checks of the caller before the body is read.

A guard costs 10 µs, a sixth of a session check, so calls without a body check the same in their handlers (ADR 58).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import HTTPScope

from interlock.machine.errors import (
    AdminCredentialInvalid,
    AdminCredentialMissing,
    CredentialInvalid,
    CredentialMissing,
    SubscriberCredentialInvalid,
    SubscriberCredentialMissing,
)
from interlock.server.experience.admission import admit
from interlock.server.experience.calls import services_for_page, services_of
from interlock.server.experience.credentials import bearer, caller
from interlock.server.guard.throttling.limits import LimitedAction

_log = structlog.get_logger("interlock.admin")

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Guard: TypeAlias = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


async def own_page(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard a call that may use or set the cookie: see :func:`interlock.server.experience.calls.services_for_page`."""
    services_for_page(connection)


def admitted(kind: LimitedAction) -> Guard:
    """Return a guard that counts a request of ``kind`` by its client's address. It raises RateLimited."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        admit(services_of(connection), connection.scope, kind)

    return guard


def with_body(wanted: str) -> Guard:
    """Return a guard for a call whose body is its credential, so that a missing one is answered with 401.

    It raises CredentialMissing, which says to send ``wanted``.
    """

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        if isinstance(connection, Request) and not await connection.body():
            raise CredentialMissing(f"send {wanted}")

    return guard


def each_of(*guards: Guard) -> Guard:
    """Return the guard that asks ``guards`` in turn. Litestar copies the handler for each guard of its own list (5 µs)."""

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        for each in guards:
            await each(connection, handler)

    return guard


async def session_holder(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard a call with an access token. Its session becomes ``request.user``.

    Raises:
        CredentialRefused, SessionNotFound: the token opens no session.
    """
    connection.scope["user"] = await caller(services_of(connection), connection.scope)


async def administrator(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard a call of administrators. The administrator becomes ``request.user``; there is no session (ASVS 8.2.1).

    Raises:
        AdminCredentialMissing, AdminCredentialInvalid: the caller is not an administrator.
        SettingsError: the keys or the secrets are unusable, so no caller can be authenticated.
        SurfaceFailed: the log has stopped; what is stored may not be what was acknowledged.
    """
    services, scope = services_of(connection), cast("HTTPScope", connection.scope)
    try:
        presented = bearer(scope)
    except CredentialInvalid as error:
        raise AdminCredentialInvalid(str(error)) from None
    if presented is None:
        raise AdminCredentialMissing("send Authorization: Bearer <administrator's secret>")
    found = services.admins.authenticate(presented)
    services.sessions.check_alive()
    _log.info("admin.call", actor=found.actor, method=scope["method"], route=scope["path_template"])
    scope["user"] = found


async def subscriber(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard a call of subscribers. The subscriber becomes ``request.user``.

    Raises:
        SubscriberCredentialMissing, SubscriberCredentialInvalid: the caller is not a subscriber.
        SettingsError: the keys or the secrets are unusable, so no caller can be authenticated.
        SurfaceFailed: the log has stopped; what is stored may not be what was acknowledged.
    """
    services = services_of(connection)
    try:
        presented = bearer(connection.scope)
    except CredentialInvalid as error:
        raise SubscriberCredentialInvalid(str(error)) from None
    if presented is None:
        raise SubscriberCredentialMissing("send Authorization: Bearer <subscriber's secret>")
    connection.scope["user"] = services.subscribers.authenticate(presented)
    services.sessions.check_alive()
