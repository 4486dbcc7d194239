"""What the endpoints of administrators have in common: who may call them, and how much they get at a time."""

from __future__ import annotations

from typing import Any, Final

import structlog
from litestar import Request

from interlock.machine.errors import AdminCredentialInvalid, AdminCredentialMissing, CredentialInvalid, Overloaded
from interlock.server.experience.admission import address_of
from interlock.server.experience.calls import services_of
from interlock.server.experience.credentials import bearer
from interlock.server.guard.admins import Administrator
from interlock.server.runtime.administration import Caller
from interlock.server.services import Services

_log = structlog.get_logger("interlock.admin")

ADMIN: Final = (AdminCredentialMissing, AdminCredentialInvalid, Overloaded)
"""What any call of an administrator may be refused for."""

ADMIN_SECURITY: Final[list[dict[str, list[str]]]] = [{"admin": []}]

MAX_PAGE: Final = 1000
LAST: Final = 2**53
"""Positions above it can't be said in JSON everywhere."""


def administrator(request: Request[Any, Any, Any]) -> tuple[Services, Administrator]:
    """The services, for an administrator: the bearer of the secret, whom no session stands for (ASVS 8.2.1).

    Raises:
        AdminCredentialMissing, AdminCredentialInvalid: somebody else.
        SettingsError: the keys can't be used, or the secrets, so nobody can be told from them.
        SurfaceFailed: the log has stopped; what is stored may not be what was acknowledged.
    """
    services = services_of(request)
    try:
        presented = bearer(request.scope)
    except CredentialInvalid as error:
        raise AdminCredentialInvalid(str(error)) from None
    if presented is None:
        raise AdminCredentialMissing("send Authorization: Bearer <administrator's secret>")
    found = services.admins.prove(presented)
    services.sessions.check_alive()
    _log.info("admin.call", actor=found.actor, method=request.method, route=request.scope["path_template"])
    return services, found


def acting(request: Request[Any, Any, Any]) -> tuple[Services, Caller]:
    """As :func:`administrator`, for a call that changes something: whom and where from its record will name."""
    services, found = administrator(request)
    return services, Caller(found.actor, address_of(request.scope))
