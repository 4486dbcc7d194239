"""All webhooks: one delivery for each file, begun and ended as the files appear and disappear."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import msgspec

from interlock.machine.errors import Overloaded, SettingsError
from interlock.machine.events.deliveries import Pending
from interlock.server.clock import Clock
from interlock.server.guard.webhook_files import Webhook, WebhookFiles
from interlock.server.outgoing.destinations import Destinations
from interlock.server.outgoing.sender import Sender
from interlock.server.runtime.events.delivery import Delivery
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.surface.webhooks import WebhookState, WebhookStore
from interlock.server.system.supervision import progressed

_LOOK_S: Final = 1.0


class WebhookStatus(msgspec.Struct, frozen=True):
    """How one webhook does. ``behind``: how many records of the log it has not passed. ``waiting``, ``dead``: messages.

    ``failing``: why the last attempt failed, if nothing was delivered since.
    """

    name: str
    webhook: Webhook
    state: WebhookState
    behind: int
    waiting: int
    dead: int
    failing: str | None


class Webhooks:
    """Delivers event messages to the webhooks in ``files``.

    A new one gets what is recorded after the server finds it. Each has its own place in the log, which ``store`` keeps; the log
    itself never waits for a webhook.
    """

    def __init__(
        self, files: WebhookFiles, store: WebhookStore, events: EventLog, clock: Clock, destinations: Destinations
    ) -> None:
        self.attempts: Final[Counter[str]] = Counter(delivered=0, failed=0)
        """The number of attempts since the start, by result."""
        self._files = files
        self._store = store
        self._events = events
        self._clock = clock
        self._destinations = destinations
        self._running: dict[str, tuple[Delivery, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                progressed()
                await self._compare()
                await asyncio.wait(
                    [asyncio.create_task(asyncio.sleep(_LOOK_S)), *(task for _, task in self._running.values())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for _, task in self._running.values():
                    if task.done():
                        task.result()  # a fault: the supervisor logs it and begins anew
        finally:
            for name in [*self._running]:
                await self._stop(name)

    @property
    def disabled(self) -> int:
        """The number of webhooks that are disabled."""
        return sum(delivery.deliveries.disabled is not None for delivery, _ in self._running.values())

    @property
    def dead(self) -> int:
        """The number of dead letters of all webhooks."""
        return sum(delivery.dead for delivery, _ in self._running.values())

    @property
    def behind(self) -> int:
        """How many records the webhook that is furthest behind has not passed."""
        return max((self._events.newest - each.deliveries.cursor for each, _ in self._running.values()), default=0)

    def statuses(self) -> list[WebhookStatus]:
        """Return how each webhook does, by name."""
        return [self._status(delivery) for _, (delivery, _) in sorted(self._running.items())]

    def delivery(self, name: str) -> Delivery | None:
        """Return the delivery to the webhook ``name``, None if there is none."""
        running = self._running.get(name)
        return running[0] if running is not None else None

    async def dead_letters(self, name: str, after: int, limit: int) -> list[Pending]:
        """Return at most ``limit`` dead letters of a webhook with positions above ``after``, by position."""
        return await self._store.dead(name, after, limit)

    async def _compare(self) -> None:
        """Begin, change and end deliveries as the files say. Files that can't be read leave them as they are."""
        try:
            wanted = self._files.names()
        except SettingsError:
            return
        for name in [each for each in self._running if each not in wanted]:
            await self._stop(name)
            await self._store.remove(name)
        for name, webhook in wanted.items():
            delivery = self.delivery(name)
            if delivery is not None and delivery.webhook.url == webhook.url:
                delivery.use(webhook)
                continue
            if delivery is not None:
                await self._stop(name)
            try:
                await self._begin(name, webhook)
            except Overloaded:
                continue  # it begins at the next look

    async def _begin(self, name: str, webhook: Webhook) -> None:
        state = await self._store.state(name) or WebhookState(name, self._events.newest)
        delivery = Delivery(
            name,
            webhook,
            state,
            await self._store.aside(name),
            store=self._store,
            events=self._events,
            clock=self._clock,
            sender=Sender(webhook.url, self._destinations),
            counts=self.attempts,
        )
        # From here on its place is kept, even if the server stops before the first message.
        await delivery.finish()
        self._running[name] = (delivery, asyncio.create_task(delivery.run(), name=f"interlock-webhook-{name}"))

    async def _stop(self, name: str) -> None:
        delivery, task = self._running.pop(name)
        task.cancel()
        await asyncio.wait([task])
        await delivery.finish()

    def _status(self, delivery: Delivery) -> WebhookStatus:
        deliveries = delivery.deliveries
        return WebhookStatus(
            delivery.name,
            delivery.webhook,
            delivery.state,
            self._events.newest - deliveries.cursor,
            deliveries.waiting,
            delivery.dead,
            deliveries.because,
        )
