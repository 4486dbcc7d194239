"""Sends messages to one webhook, as Standard Webhooks describes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from interlock.machine.events.deliveries import AT_ONCE, Failure
from interlock.server.outgoing.client import OutgoingClient, Unreachable
from interlock.server.outgoing.destinations import Destinations
from interlock.server.outgoing.signatures import signed_headers

_TIMEOUT_S: Final = 20.0
"""Standard Webhooks recommends 15 to 30 seconds."""


class Sender:
    """Sends messages to ``url``."""

    def __init__(self, url: str, destinations: Destinations) -> None:
        self._client = OutgoingClient(url, destinations, timeout_s=_TIMEOUT_S, at_once=AT_ONCE)

    async def send(self, message_id: str, body: bytes, secrets: Sequence[str], now_ms: int) -> Failure | None:
        """Send one message, signed with each of ``secrets``. Return why it was not taken, None if it was."""
        try:
            answer = await self._client.post(signed_headers(secrets, message_id, body, now_ms), body, now_ms)
        except Unreachable as error:
            return Failure(str(error))
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        return Failure(f"it answered {answer.status}", answer.status, answer.retry_after_ms)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
