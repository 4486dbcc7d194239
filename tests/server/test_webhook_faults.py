"""Webhooks while storage is overloaded or fails, and what becomes of the state of a removed webhook."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Never

import pytest

from interlock.machine.errors import Overloaded
from interlock.machine.events.deliveries import Changes
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.webhook_files import WebhookFiles
from interlock.server.runtime.events.delivery import Delivery
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.stores.webhooks import SqliteWebhooks
from interlock.server.surface.webhooks import WebhookState
from interlock.server.system.supervision import Supervisor
from tests.server.test_dead_letters import Inside, inside
from tests.server.webhook_contract import pending
from tests.support.hooks import receiving
from tests.support.running import eventually, scenario

DAY_MS = 86_400_000


def delivery_of(runtime: Inside) -> Delivery:
    delivery = runtime.webhooks.delivery("shop")
    assert delivery is not None
    return delivery


@scenario()
async def test_a_new_webhook_inherits_nothing_of_a_removed_one(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        for name in ("shop", "gone"):
            await surface.webhooks.save(WebhookState(name, 1, 0), Changes({2: pending(2)}, dead={1: pending(1)}))
    with receiving() as receiver:
        async with inside(tmp_path, receiver.url) as runtime:
            assert (runtime.status.waiting, runtime.status.dead, runtime.status.state.created_at_ms > 1) == (0, 0, True)
            assert await runtime.webhooks.dead_letters("shop", 0, 10) == []
            assert await runtime.webhooks.dead_letters("gone", 0, 10) == [], "removed while the server was stopped"
            await runtime.ended()
            await eventually(receiver.taken)
            assert len(receiver.got) == 1


@scenario()
async def test_a_message_outside_narrower_scopes_is_not_repeated(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.answers = lambda _: 500 if not receiver.got else 204
        async with inside(tmp_path, receiver.url) as runtime:
            await runtime.ended()
            await eventually(lambda: runtime.webhooks.attempts["failed"])
            files = WebhookFiles(tmp_path / "keys")
            stored = files.existing("shop")
            files.remove("shop")
            narrower = type(stored)(stored.url, ("executions:orders",), stored.secrets, stored.created_at_ms)
            files.add("shop", narrower)
            await eventually(lambda: runtime.status.webhook == narrower)
            runtime.clock.advance(DAY_MS)
            await eventually(lambda: runtime.status.waiting == 0)
            assert len(receiver.got) == 1
            assert runtime.webhooks.attempts["delivered"] == 0


@scenario()
async def test_an_overloaded_read_is_repeated_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = EventLog.page
    refused: list[Any] = []

    async def overloaded(self: EventLog, *arguments: Any) -> Any:
        if len(refused) < 2:
            refused.append(arguments)
            raise Overloaded
        return await page(self, *arguments)

    with receiving() as receiver:
        async with inside(tmp_path, receiver.url) as runtime:
            before = delivery_of(runtime)
            monkeypatch.setattr(EventLog, "page", overloaded)
            await runtime.ended()
            await eventually(receiver.taken)
            assert len(refused) == 2
            assert delivery_of(runtime) is before, "nothing was restarted"


@scenario()
async def test_a_fault_of_one_delivery_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Delivery._read
    failed: list[Delivery] = []

    async def faulty(self: Delivery) -> None:
        if self.name == "shop" and not failed:
            failed.append(self)
            raise RuntimeError("a fault")
        await read(self)

    with receiving() as receiver:
        load_keys(tmp_path / "keys")
        WebhookFiles(tmp_path / "keys").create("other", receiver.url, ("session-ends",), 1)
        async with inside(tmp_path, receiver.url) as runtime:
            await eventually(lambda: len(runtime.webhooks.statuses()) == 2)
            shop, other = delivery_of(runtime), runtime.webhooks.delivery("other")
            monkeypatch.setattr(Delivery, "_read", faulty)
            await runtime.ended()
            await eventually(lambda: len(receiver.taken()) == 2)
            assert runtime.webhooks.delivery("other") is other
            assert delivery_of(runtime) is not shop
            assert failed == [shop]


@scenario()
async def test_enabling_that_can_not_be_stored_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def overloaded(*_: Any) -> Never:
        raise Overloaded

    with receiving() as receiver:
        receiver.answers = lambda _: 410
        async with inside(tmp_path, receiver.url) as runtime:
            await runtime.ended()
            await eventually(lambda: runtime.status.state.disabled)
            delivery = delivery_of(runtime)
            with monkeypatch.context() as patch:
                patch.setattr(SqliteWebhooks, "save", overloaded)
                with pytest.raises(Overloaded):
                    await delivery.enable()
            assert runtime.status.state.disabled == "it answered 410 Gone"
            await delivery.enable()
            assert runtime.status.state.disabled is None


@scenario()
async def test_a_state_that_could_not_be_stored_is_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = SqliteWebhooks.save
    saved: list[WebhookState] = []
    refused: list[WebhookState] = []

    async def sometimes(self: SqliteWebhooks, state: WebhookState, changes: Changes) -> None:
        if state.disabled is not None and len(refused) < 2:
            refused.append(state)
            raise Overloaded
        await save(self, state, changes)
        saved.append(state)

    with receiving() as receiver:
        receiver.answers = lambda _: 410
        async with inside(tmp_path, receiver.url) as runtime:
            monkeypatch.setattr(SqliteWebhooks, "save", sometimes)
            await runtime.ended()
            await eventually(lambda: saved and saved[-1].disabled == "it answered 410 Gone")
            assert len(refused) == 2


def test_a_former_secret_is_held_as_long_as_it_signs(tmp_path: Path) -> None:
    load_keys(tmp_path)
    files = WebhookFiles(tmp_path)
    files.create("shop", "https://shop.example.org/", ("session-ends",), 1)
    (former,) = files.held(1)
    files.rotate("shop", 2)
    assert len(files.held(2)) == 2
    assert former in files.held(DAY_MS + 1)
    assert former not in files.held(DAY_MS + 2)
