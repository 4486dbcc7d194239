"""What the endpoints of administrators have in common: who may call them, and how much they get at a time."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from interlock.machine.errors import AdminCredentialInvalid, AdminCredentialMissing, Overloaded
from interlock.server.experience.admission import address_of
from interlock.server.runtime.accounts.administration import Caller

ADMIN: Final = (AdminCredentialMissing, AdminCredentialInvalid, Overloaded)
"""What any call of an administrator may be refused for."""

ADMIN_SECURITY: Final[list[dict[str, list[str]]]] = [{"admin": []}]

MAX_PAGE: Final = 1000
LAST: Final = 2**53
"""Positions above it can't be said in JSON everywhere."""


def acting(request: Request[Any, Any, Any]) -> Caller:
    """Return whom, and where from, the record of a call that changes something will name."""
    return Caller(request.user.actor, address_of(request.scope))
