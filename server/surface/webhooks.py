"""What is stored of webhooks beside the log: how far each got, what was put aside, and dead letters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from interlock.machine.events.deliveries import Changes, Pending


class WebhookState(msgspec.Struct, frozen=True):
    """The state of one webhook. ``cursor``: up to here, every message is delivered, put aside or a dead letter.

    ``created_at_ms`` is when it was created: a later webhook of the same name begins with nothing.
    ``disabled_at_ms`` and ``disabled``: since when and why nothing is sent, None while it is. ``last_success_ms`` is the time
    of the last delivery, 0 before the first. ``replayed_at_ms`` is when dead letters were last replayed, 0 if never.
    """

    name: str
    created_at_ms: int
    cursor: int
    disabled_at_ms: int | None = None
    disabled: str | None = None
    last_success_ms: int = 0
    replayed_at_ms: int = 0


class WebhookStore(Protocol):
    """The store of webhooks' states. Every implementation passes the same contract suite."""

    async def names(self) -> set[str]:
        """Return the names of all webhooks that have a state."""
        ...

    async def state(self, name: str) -> WebhookState | None:
        """Return the state of a webhook, None if it has none yet."""
        ...

    async def save(self, state: WebhookState, changes: Changes) -> None:
        """Store ``state`` and ``changes``, all or nothing."""
        ...

    async def aside(self, name: str) -> list[Pending]:
        """Return the messages put aside, by position."""
        ...

    async def dead(self, name: str, after: int, limit: int) -> list[Pending]:
        """Return at most ``limit`` dead letters with positions above ``after``, by position."""
        ...

    async def count_dead(self, name: str) -> int:
        """Return the number of dead letters."""
        ...

    async def replay(self, name: str, positions: Collection[int]) -> list[Pending]:
        """Put the dead letters at ``positions`` aside again, as if they had not been tried. Return them, by position."""
        ...

    async def remove(self, name: str) -> None:
        """Delete everything stored of a webhook."""
        ...
