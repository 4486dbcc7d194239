"""All webhooks: one delivery for each file, begun and ended as the files appear and disappear."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Final

import msgspec
import structlog

from interlock.machine.errors import Overloaded, SettingsError, SurfaceError
from interlock.machine.events.deliveries import Changes, Pending
from interlock.server.clock import Clock
from interlock.server.guard.webhook_files import Webhook, WebhookFiles
from interlock.server.outgoing.destinations import Destinations
from interlock.server.outgoing.sender import Sender
from interlock.server.runtime.events.delivery import Delivery
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.surface.webhooks import WebhookState, WebhookStore
from interlock.server.system.supervision import WorkEnded, progressed

_log = structlog.get_logger("interlock.events")

_LOOK_S: Final = 1.0
_PAUSE_S: Final = 5.0
"""Delay before a delivery that failed by a fault of this server begins again."""


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
    itself never waits for a webhook, and no webhook for another.
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
        self._stored: set[str] | None = None
        """The names that have a state in ``store``; None until it is read."""
        self._paused_until_s: dict[str, float] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                progressed()
                await self._compare()
                await asyncio.sleep(_LOOK_S)
                for name in [name for name, (_, task) in self._running.items() if task.done()]:
                    delivery, task = self._running.pop(name)
                    await delivery.finish()
                    self._pause(name, None if task.cancelled() else task.exception())
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
        """Begin, change and end deliveries as the files say. Files that can't be read leave them as they are.

        What can't be read or stored now is done at the next look.
        """
        try:
            wanted = self._files.names()
        except SettingsError:
            return
        try:
            await self._remove_others(wanted)
        except (Overloaded, SurfaceError):
            return
        now_s = asyncio.get_running_loop().time()
        for name, webhook in wanted.items():
            delivery = self.delivery(name)
            if delivery is not None:
                former = delivery.webhook
                if (former.url, former.created_at_ms) == (webhook.url, webhook.created_at_ms):
                    delivery.use(webhook)
                    continue
                await self._stop(name)
            if now_s < self._paused_until_s.get(name, 0.0):
                continue
            try:
                await self._begin(name, webhook)
            except Overloaded:
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, the others go on
                self._pause(name, error)

    async def _remove_others(self, wanted: Collection[str]) -> None:
        """Stop every delivery without a file, and delete what is stored of it, also of those removed before the start."""
        if self._stored is None:
            self._stored = await self._store.names()
        for name in self._stored.difference(wanted):
            if name in self._running:
                await self._stop(name)
            await self._store.remove(name)
            self._stored.discard(name)

    async def _begin(self, name: str, webhook: Webhook) -> None:
        assert self._stored is not None  # noqa: S101  # read before the first begins
        self._stored.add(name)
        state = await self._store.state(name)
        if state is None or state.created_at_ms != webhook.created_at_ms:
            await self._store.remove(name)
            state = WebhookState(name, webhook.created_at_ms, self._events.newest)
            # From here on its place is kept, even if the server stops before the first message.
            await self._store.save(state, Changes())
        delivery = Delivery(
            name,
            webhook,
            state,
            await self._store.aside(name),
            await self._store.count_dead(name),
            store=self._store,
            events=self._events,
            clock=self._clock,
            sender=Sender(webhook.url, self._destinations),
            counts=self.attempts,
        )
        self._running[name] = (delivery, asyncio.create_task(delivery.run(), name=f"interlock-webhook-{name}"))

    async def _stop(self, name: str) -> None:
        delivery, task = self._running.pop(name)
        task.cancel()
        await asyncio.wait([task])
        await delivery.finish()

    def _pause(self, name: str, error: BaseException | None) -> None:
        """Log the fault of one delivery, and begin it again later."""
        _log.critical("webhook.fault", webhook=name, exc_info=error or WorkEnded("it was cancelled"))
        self._paused_until_s[name] = asyncio.get_running_loop().time() + _PAUSE_S

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
