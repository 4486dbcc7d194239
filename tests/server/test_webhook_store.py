"""The contract of the store of webhooks' states, for SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.webhooks import WebhookStore
from interlock.server.system.supervision import Supervisor
from tests.server.webhook_contract import WebhookStoreContract


class TestSqliteWebhooks(WebhookStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[WebhookStore]:
        async with open_surface(folder, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            yield surface.webhooks
