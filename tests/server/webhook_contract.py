"""Contract of the store of webhooks' states; as in surface_contract.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from interlock.machine.events.deliveries import Changes, Pending
from interlock.server.surface.webhooks import WebhookState, WebhookStore
from tests.support.asynchronous import asynchronous


def pending(position: int, key: str = "s", attempts: int = 1) -> Pending:
    return Pending(position, key, attempts, 7_000, 1_000, 2_000, "it answered 500", aside=True)


class WebhookStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.webhooks.WebhookStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[WebhookStore]:
        """Open the store in ``folder``, new or as it was left."""

    @asynchronous
    async def test_what_was_saved_is_there_after_a_restart(self, tmp_path: Path) -> None:
        state = WebhookState("shop", 1_000, 5, 8_000, "it answered 410 Gone", 9_000, 3_000)
        async with self.open(tmp_path) as store:
            assert (await store.state("shop"), await store.names()) == (None, set())
            await store.save(state, Changes({3: pending(3), 4: pending(4)}, set(), {2: pending(2, attempts=10)}))
        async with self.open(tmp_path) as store:
            assert await store.state("shop") == state
            assert (await store.state("other"), await store.names()) == (None, {"shop"})
            aside = await store.aside("shop")
            assert [(each.position, each.key, each.attempts, each.due_ms) for each in aside] == [
                (3, "s", 1, 7_000),
                (4, "s", 1, 7_000),
            ]
            (dead,) = await store.dead("shop", 0, 10)
            assert (dead.position, dead.attempts, dead.because) == (2, 10, "it answered 500")
            assert (dead.first_at_ms, dead.last_at_ms) == (1_000, 2_000)
            assert await store.count_dead("shop") == 1

    @asynchronous
    async def test_delivered_messages_are_forgotten(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            await store.save(WebhookState("shop", 1_000, 5), Changes({3: pending(3), 4: pending(4)}))
            await store.save(WebhookState("shop", 1_000, 6), Changes({4: pending(4, attempts=2)}, {3, 99}))
            state = await store.state("shop")
            assert state is not None
            assert state.cursor == 6
            assert [(each.position, each.attempts) for each in await store.aside("shop")] == [(4, 2)]

    @asynchronous
    async def test_dead_letters_are_listed_in_pages_and_replayed(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            dead = {position: pending(position, attempts=10) for position in (2, 3, 5)}
            await store.save(WebhookState("shop", 1_000, 5), Changes({4: pending(4)}, set(), dead))
            assert [each.position for each in await store.dead("shop", 0, 2)] == [2, 3]
            assert [each.position for each in await store.dead("shop", 3, 2)] == [5]
            revived = await store.replay("shop", [5, 2, 4, 77])
            assert [(each.position, each.attempts, each.due_ms) for each in revived] == [(2, 0, 0), (5, 0, 0)]
            assert [each.position for each in await store.aside("shop")] == [2, 4, 5]
            assert await store.count_dead("shop") == 1

    @asynchronous
    async def test_webhooks_do_not_touch_each_others_messages(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            for name in ("shop", "other"):
                await store.save(WebhookState(name, 1_000, 5), Changes({3: pending(3)}, set(), {2: pending(2)}))
            await store.save(WebhookState("shop", 1_000, 5), Changes(delivered={3}))
            await store.replay("shop", [2])
            assert [each.position for each in await store.aside("other")] == [3]
            await store.remove("other")
            assert await store.state("other") is None
            assert (await store.aside("other"), await store.dead("other", 0, 10)) == ([], [])
            assert [each.position for each in await store.aside("shop")] == [2]
