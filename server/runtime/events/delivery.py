"""The delivery of event messages to one webhook: reads the log, sends, and stores how far it got."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

import msgspec
import structlog

from interlock.machine.errors import Overloaded, SurfaceError
from interlock.machine.events.deliveries import WINDOW, Changes, Deliveries, Failure, Pending
from interlock.machine.events.messages import EventMessage
from interlock.machine.events.scopes import Scopes
from interlock.server.clock import Clock
from interlock.server.guard.webhook_files import Webhook
from interlock.server.outgoing.sender import Sender
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.surface.webhooks import WebhookState, WebhookStore

_log = structlog.get_logger("interlock.events")

_LOOK_S: Final = 1.0
"""How often the cursor is stored, at most, and how long the work waits for anything."""
_MS_PER_S: Final = 1000
_PAGES_AT_ONCE: Final = 8
_JITTER: Final = 0.2
_REPLAYED_AT_ONCE: Final = 1000
_MOST_DEAD: Final = 10_000
"""Dead letters that are kept. A webhook with more is disabled."""

Outcome: TypeAlias = Failure | Literal["delivered", "not covered"]
"""The outcome of an attempt. A message is not covered if the webhook's scopes have changed since it was put aside."""


def _jitter() -> float:
    return 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311  # it spreads load and protects nothing


class Delivery:
    """The delivery to the webhook ``name``, from the stored ``state`` on, with ``dead`` dead letters.

    ``counts``: attempts by result, for all webhooks together.
    """

    def __init__(  # noqa: PLR0913  # each once
        self,
        name: str,
        webhook: Webhook,
        state: WebhookState,
        aside: list[Pending],
        dead: int,
        *,
        store: WebhookStore,
        events: EventLog,
        clock: Clock,
        sender: Sender,
        counts: Counter[str],
    ) -> None:
        self.name: Final = name
        self.webhook = webhook
        self.deliveries: Final = Deliveries(state.cursor, aside, _jitter)
        self.deliveries.disabled = state.disabled
        self.deliveries.last_success_ms = state.last_success_ms
        self.dead = dead
        self._stored = state
        self._disabled_at_ms = state.disabled_at_ms
        self._replayed_at_ms = state.replayed_at_ms
        self._store = store
        self._events = events
        self._clock = clock
        self._sender = sender
        self._counts = counts
        self._scopes = Scopes(webhook.scopes)
        self._messages: dict[int, EventMessage] = {}
        self._sending: dict[asyncio.Task[Outcome], Pending] = {}
        self._wake = asyncio.Event()
        self._saved_s = 0.0
        self._saving = asyncio.Lock()

    @property
    def state(self) -> WebhookState:
        """The state now, which is stored within a second."""
        deliveries = self.deliveries
        return msgspec.structs.replace(
            self._stored,
            cursor=deliveries.cursor,
            disabled=deliveries.disabled,
            disabled_at_ms=self._disabled_at_ms,
            last_success_ms=deliveries.last_success_ms,
            replayed_at_ms=self._replayed_at_ms,
        )

    def use(self, webhook: Webhook) -> None:
        """Go on with what the webhook's file says now, but for its URL."""
        if webhook.scopes != self.webhook.scopes:
            self._scopes = Scopes(webhook.scopes)
            self._messages.clear()  # each is read again, under the new scopes
        self.webhook = webhook

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                may_read = True
                try:
                    await self._asked()
                    await self._read()
                except Overloaded:
                    may_read = False  # until the next look
                self._send()
                await self._wait(may_read=may_read)
                await self._settle()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            await self._sender.close()

    async def finish(self) -> None:
        """Store how far it got, once :meth:`run` is cancelled. What can't be stored is sent again after the next start."""
        with suppress(SurfaceError, Overloaded):
            await self._save()

    async def replay(self, positions: list[int] | None = None) -> int:
        """Send the dead letters at ``positions`` again, or all of them. Return how many."""
        if positions is None:
            positions = [each.position for each in await self._store.dead(self.name, 0, _REPLAYED_AT_ONCE)]
        revived = await self._store.replay(self.name, positions)
        for each in revived:
            self.deliveries.restore(each)
        self.dead -= len(revived)
        self._wake.set()
        return len(revived)

    async def enable(self) -> None:
        """Send again, after the webhook was disabled.

        Raises:
            SurfaceFailed, Overloaded: it can't be stored, and the webhook stays as it is.
        """
        async with self._saving:
            await self._store_state(
                msgspec.structs.replace(self._stored, disabled=None, disabled_at_ms=None), Changes()
            )
            self.deliveries.enable(self._clock.now_ms())
            self._disabled_at_ms = None
        _log.info("webhook.enabled", webhook=self.name)
        self._wake.set()

    async def _asked(self) -> None:
        """Do what the command line asked for in the webhook's file."""
        if self._disabled_at_ms is not None and self.webhook.enabled_at_ms > self._disabled_at_ms:
            await self.enable()
        asked_at_ms = self.webhook.replay_at_ms
        if asked_at_ms > self._replayed_at_ms:
            while await self.replay():
                pass
            self._replayed_at_ms = asked_at_ms

    async def _read(self) -> None:
        """Read the log as far as there is room."""
        deliveries = self.deliveries
        for _ in range(_PAGES_AT_ONCE):
            if deliveries.disabled is not None or not deliveries.room or deliveries.read_to >= self._events.newest:
                return
            page = await self._events.page(deliveries.read_to, self._scopes, deliveries.room)
            for message in page.messages:
                position = message.data.position
                self._messages[position] = message
                deliveries.read(position, message.data.session_id or message.data.instance_id)
            deliveries.pass_to(page.cursor)
            if len(self._messages) > 2 * WINDOW:
                # Those of messages that were put aside.
                self._messages = {
                    each: message for each, message in self._messages.items() if deliveries.in_window(each)
                }

    def _send(self) -> None:
        now_ms = self._clock.now_ms()
        while (pending := self.deliveries.next(now_ms)) is not None:
            self._sending[asyncio.create_task(self._attempt(pending))] = pending

    async def _attempt(self, pending: Pending) -> Outcome:
        message = self._messages.get(pending.position) or await self._events.message_at(pending.position, self._scopes)
        if message is None:
            return "not covered"
        now_ms = self._clock.now_ms()
        body = msgspec.json.encode(message)
        failure = await self._sender.send(message.id, body, self.webhook.signing(now_ms), now_ms)
        return failure if failure is not None else "delivered"

    async def _wait(self, *, may_read: bool) -> None:
        """Wait until there may be something to do. New records are something to do if the log ``may_read``."""
        deliveries = self.deliveries
        timeout_s, due_ms = _LOOK_S, deliveries.due_ms()
        if due_ms is not None and not self._sending:
            timeout_s = min(max((due_ms - self._clock.now_ms()) / _MS_PER_S, 0.0), _LOOK_S)
        waiting: set[asyncio.Task[Any]] = {*self._sending, asyncio.create_task(self._wake.wait())}
        if may_read and deliveries.disabled is None and deliveries.room:
            waiting.add(asyncio.create_task(self._events.tail.wait(deliveries.read_to, timeout_s)))
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting - self._sending.keys():
                task.cancel()
        self._wake.clear()

    async def _settle(self) -> None:
        """Take note of the attempts that are over, and store what has to be."""
        now_ms = self._clock.now_ms()
        was_disabled = self.deliveries.disabled
        for task in [each for each in self._sending if each.done()]:
            pending = self._sending.pop(task)
            # One that is repeated is read from the log again then.
            self._messages.pop(pending.position, None)
            self._note(pending, task, now_ms)
        because = self.deliveries.disabled
        if because is not None and was_disabled is None:
            self._disabled_at_ms = now_ms
            self._saved_s = 0.0  # so that it is stored now
            _log.error("webhook.disabled", webhook=self.name, because=because)
        await self._save_if_due()

    def _note(self, pending: Pending, task: asyncio.Task[Outcome], now_ms: int) -> None:
        try:
            outcome = task.result()
        except Overloaded:
            self.deliveries.given_back(pending.key, now_ms)
            return
        if outcome == "not covered":
            self.deliveries.left_out(pending.key)
            return
        if outcome == "delivered":
            self._counts["delivered"] += 1
            self.deliveries.delivered(pending.key, now_ms)
            return
        self._counts["failed"] += 1
        _log.warning("webhook.failed", webhook=self.name, because=outcome.because)
        if self.deliveries.failed(pending.key, outcome, now_ms) is not None:
            self.dead += 1
            _log.error("webhook.dead_letter", webhook=self.name, position=pending.position, because=outcome.because)
            if self.dead >= _MOST_DEAD:
                self.deliveries.disable(f"it has {_MOST_DEAD} dead letters")

    async def _save_if_due(self) -> None:
        """Store what has changed, at most once a second. What can't be stored now is tried again at the next look."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._saved_s + _LOOK_S and (self.deliveries.has_changes or self.state != self._stored):
            self._saved_s = now_s
            with suppress(Overloaded):
                await self._save()

    async def _save(self) -> None:
        """Store everything.

        Raises:
            SurfaceFailed, Overloaded: it is not stored.
        """
        async with self._saving:
            await self._store_state(self.state, self.deliveries.take_changes())

    async def _store_state(self, state: WebhookState, changes: Changes) -> None:
        try:
            await self._store.save(state, changes)
        except BaseException:
            self.deliveries.return_changes(changes)
            raise
        self._stored = state
