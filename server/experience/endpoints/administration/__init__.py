"""Endpoints of administrators."""

from __future__ import annotations

from typing import Final

from litestar.types import ControllerRouterHandler

from interlock.server.experience.endpoints.administration import accounts, executions, log, sessions, webhooks

HANDLERS: Final[list[ControllerRouterHandler]] = [
    *sessions.HANDLERS,
    *accounts.HANDLERS,
    *executions.HANDLERS,
    *log.HANDLERS,
    *webhooks.HANDLERS,
]
