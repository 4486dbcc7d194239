"""A client's intents over HTTP."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import httpx

from tests.support.client import Client
from tests.support.running import eventually

ENDED: Final = {"succeeded", "failed", "cancelled"}


async def submitted(client: Client, name: str, intent_id: str | None = None, **parameters: Any) -> httpx.Response:
    """Submit an intent, under a new id unless one is given. Return the response."""
    body = {"id": intent_id or str(uuid4()), "name": name, "parameters": parameters}
    return await client.request("POST", "/api/intents", json=body)


async def submit(client: Client, name: str, intent_id: str | None = None, **parameters: Any) -> httpx.Response:
    """Submit an intent of the realm ``errands``, as :func:`submitted`."""
    return await submitted(client, f"errands.{name}", intent_id, **parameters)


async def accepted(client: Client, name: str, intent_id: str | None = None, **parameters: Any) -> dict[str, Any]:
    """Submit a new intent, and return its execution."""
    answer = await submit(client, name, intent_id, **parameters)
    assert answer.status_code == 202, answer.text
    execution: dict[str, Any] = answer.json()
    return execution


async def execution_of(client: Client, execution_id: str) -> dict[str, Any]:
    """Get an execution."""
    execution: dict[str, Any] = (
        (await client.request("GET", f"/api/executions/{execution_id}")).raise_for_status().json()
    )
    return execution


async def state_of(client: Client, execution_id: str, *states: str) -> dict[str, Any]:
    """Wait until an execution is in one of ``states``, and return it."""

    async def reached() -> dict[str, Any] | None:
        execution = await execution_of(client, execution_id)
        return execution if execution["state"] in states else None

    execution: dict[str, Any] = await eventually(reached)
    return execution


async def outcome(client: Client, execution_id: str) -> dict[str, Any]:
    """Wait until an execution has ended, and return it."""
    return await state_of(client, execution_id, *ENDED)
