"""Contract of the store of sessions' devices; as in surface_contract.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from interlock.machine.errors import RecordRefused
from interlock.server.surface.devices import Device, DeviceStore, SessionDevice
from interlock.server.surface.log import Step, TransitionLog
from tests.support.asynchronous import asynchronous
from tests.support.steps import Story

FIREFOX = Device("Firefox on Linux", "203.0.113.7")
CHROME = Device("Chrome on Android", "2001:db8::7")


async def log_in(log: TransitionLog, store: DeviceStore, device: Device, seen_at_ms: int) -> SessionDevice:
    """Record a session of ``ada`` whose login stores ``device``."""
    story = Story()
    created, login = story.begin("ada")
    seen = SessionDevice(story.session_id, "ada", device, seen_at_ms)
    await log.append([created, Step(login.transition, login.instance, store.put(seen))])
    return seen


class DeviceStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.devices.DeviceStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[tuple[TransitionLog, DeviceStore]]:
        """Open the implementation under test, and its log, over ``folder``."""

    @asynchronous
    async def test_the_last_device_of_a_session_is_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            story, other = Story(), await log_in(log, store, CHROME, 5)
            await log.append(story.begin("ada"))
            for device, at_ms in ((FIREFOX, 1), (CHROME, 2)):
                seen = SessionDevice(story.session_id, "ada", device, at_ms)
                (step,) = story.touch()
                await log.append([Step(step.transition, step.instance, store.put(seen))])
            found = await store.of_sessions([story.session_id, other.session_id, "nobody"])
            assert found == {story.session_id: seen, other.session_id: other}
            assert await store.of_sessions([]) == {}

    @asynchronous
    async def test_a_refused_step_leaves_no_device(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            story = Story()
            created, login = story.begin("ada")
            seen = SessionDevice(story.session_id, "ada", FIREFOX, 1)
            with pytest.raises(RecordRefused):
                await log.append([created, Step(login.transition, login.instance, store.put(seen)), *story.bad()])
            assert await store.of_sessions([story.session_id]) == {}

    @asynchronous
    async def test_devices_are_erased_when_their_time_is_over(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            seen = [await log_in(log, store, FIREFOX, at_ms) for at_ms in (30, 10, 20, 40)]

            async def left() -> list[int]:
                return sorted(
                    each.seen_at_ms for each in (await store.of_sessions([each.session_id for each in seen])).values()
                )

            assert (await store.erase(10, 9, 9), await left()) == (0, [10, 20, 30, 40])
            assert (await store.erase(31, 9, 2), await left()) == (2, [30, 40])
            assert (await store.erase(31, 9, 2), await left()) == (1, [40])
            assert (await store.erase(31, 9, 2), await left()) == (0, [40])

    @asynchronous
    async def test_only_the_newest_devices_are_kept(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            seen = [await log_in(log, store, FIREFOX, at_ms) for at_ms in (3, 1, 2)]
            assert await store.erase(0, 1, 9) == 2
            assert list(await store.of_sessions([each.session_id for each in seen])) == [seen[0].session_id]
