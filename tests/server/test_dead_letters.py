"""Dead letters: what is given up after three days, is shown, and is sent again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from interlock.machine.events.deliveries import RETRIES_S, Changes, Pending
from interlock.machine.session.commands import Revoke
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.webhook_files import WebhookFiles
from interlock.server.outgoing.destinations import Destinations
from interlock.server.runtime.door import commands
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.runtime.events.webhooks import Webhooks, WebhookStatus
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.runtime.tail import Tail
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.machine.samples import POLICY
from tests.server.test_event_log import positions, visit
from tests.server.test_webhooks import LOOPBACK, administrator, created, served, status
from tests.support.admin import problem
from tests.support.clock import HandClock
from tests.support.hooks import receiving
from tests.support.log import interlock
from tests.support.running import eventually, scenario


class Inside:
    """The runtime of one server in this process, whose clock a test moves."""

    def __init__(self, sessions: Sessions, webhooks: Webhooks, clock: HandClock) -> None:
        self.sessions = sessions
        self.webhooks = webhooks
        self.clock = clock

    async def ended(self) -> str:
        """Begin and end a session. Return its id."""
        session = (await self.sessions.begin("anonymous")).instance
        await self.sessions.submit(session.session_id, *commands("server", Revoke("revoked")))
        return session.session_id

    @property
    def status(self) -> WebhookStatus:
        (status,) = self.webhooks.statuses()
        return status


@asynccontextmanager
async def inside(folder: Path, url: str) -> AsyncIterator[Inside]:
    """Run the webhooks over a log in ``folder``, one of them at ``url``."""
    clock = HandClock()
    load_keys(folder / "keys")
    files = WebhookFiles(folder / "keys")
    files.create("shop", url, ("session-ends",), clock.now_ms())
    async with open_surface(folder, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        feed = Feed(surface.log)
        sessions = Sessions(feed, clock, policy=POLICY, cache_limit=100)
        tail = Tail(sessions.records, 0)
        feed.subscribe(tail.observe)
        await feed.start()
        webhooks = Webhooks(
            files,
            surface.webhooks,
            EventLog(surface.log, tail, {"session": sessions.cached}),
            clock,
            Destinations([LOOPBACK]),
        )
        running = asyncio.create_task(webhooks.run())
        try:
            await eventually(webhooks.statuses)
            yield Inside(sessions, webhooks, clock)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def given_up(runtime: Inside) -> None:
    """Move the clock from attempt to attempt until the first message is a dead letter."""
    for attempt, delay_s in enumerate((*RETRIES_S, 0), 1):
        await eventually(lambda attempt=attempt: runtime.webhooks.attempts["failed"] == attempt)  # type: ignore[misc]  # its own value
        runtime.clock.advance(round(delay_s * 1200) + 1)
    await eventually(lambda: runtime.status.dead == 1)


@scenario()
async def test_a_message_refused_for_three_days_becomes_a_dead_letter(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.answers = lambda _: 400
        async with inside(tmp_path, receiver.url) as runtime:
            session_id = await runtime.ended()
            await given_up(runtime)
            assert len(receiver.got) == len(RETRIES_S) + 1
            assert {each.headers["webhook-id"] for each in receiver.got} == {receiver.got[0].headers["webhook-id"]}
            times = [int(each.headers["webhook-timestamp"]) for each in receiver.got]
            assert 3 * 86_400 < times[-1] - times[0] < 5 * 86_400
            await eventually(lambda: runtime.webhooks.dead_letters("shop", 0, 10))
            (letter,) = await runtime.webhooks.dead_letters("shop", 0, 10)
            assert (letter.key, letter.attempts, letter.because) == (session_id, 10, "it answered 400")
            assert (runtime.status.waiting, runtime.status.state.disabled) == (0, None)
            receiver.answers = lambda _: 204
            delivery = runtime.webhooks.delivery("shop")
            assert delivery is not None
            assert await delivery.replay() == 1
            await eventually(receiver.taken)
            assert (runtime.status.dead, await runtime.webhooks.dead_letters("shop", 0, 10)) == (0, [])


@scenario()
async def test_dead_letters_are_shown_and_replayed(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            ended = await visit(server.url, 4)
            await eventually(lambda: len(receiver.got) == 4)
            await eventually(lambda: _all_passed(admin))
            server.stop()
            receiver.got.clear()
            letters = {
                position: Pending(position, session_id, 10, 9_000, 1_000, 8_000, "it answered 400")
                for position, session_id in zip(positions(server.data, "revoke"), ended, strict=True)
            }
            async with open_surface(
                server.data, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()
            ) as surface:
                state = await surface.webhooks.state("shop")
                assert state is not None
                await surface.webhooks.save(state, Changes(dead=letters))
            server.start()
            await eventually(lambda: status(admin))
            shown = await status(admin)
            assert shown is not None
            assert shown["dead_letters"] == 4
            listed = await admin.every("/webhooks/shop/dead-letters", limit=3)
            assert [each["position"] for each in listed] == [*letters]
            assert listed[0] == {
                "position": min(letters),
                "session_id": ended[0],
                "attempts": 10,
                "first_attempt_at": "1970-01-01T00:00:01.000Z",
                "last_attempt_at": "1970-01-01T00:00:08.000Z",
                "because": "it answered 400",
            }
            told = await asyncio.to_thread(interlock, "webhooks", "dead-letters", "shop", "--data", server.data)
            assert told.returncode == 0
            assert all(str(position) in told.stdout for position in letters)
            first = min(letters)
            answer = await admin.http.post("/webhooks/shop/replay", json={"positions": [first, 10**9]})
            assert (answer.status_code, answer.json()) == (200, {"replayed": 1})
            await eventually(lambda: len(receiver.taken()) == 1)
            assert receiver.got[0].message["data"]["position"] == first
            replay = await asyncio.to_thread(interlock, "webhooks", "replay", "shop", "--data", server.data)
            assert replay.returncode == 0
            await eventually(lambda: len(receiver.taken()) == 4)
            assert {each.session_id for each in receiver.taken()} == {*ended}
            assert await admin.get("/webhooks/shop/dead-letters") == []
            problem(await admin.http.post("/webhooks/other/replay"), 404, "not-found")
            problem(await admin.http.post("/webhooks/shop/replay", json={"positions": [0]}), 400, "bad-request")
            state_now = await asyncio.to_thread(interlock, "webhooks", "list", "--data", server.data)
            assert "enabled" in state_now.stdout


async def _all_passed(admin: object) -> bool:
    shown = await status(admin)  # type: ignore[arg-type]  # an administrator
    return shown is not None and shown["behind"] == 0


@pytest.mark.parametrize("command", ["rotate", "enable", "dead-letters", "replay", "remove"])
def test_commands_for_an_unknown_webhook_say_so(tmp_path: Path, command: str) -> None:
    load_keys(tmp_path / "keys")
    outcome = interlock("webhooks", command, "shop", "--data", tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "interlock: there is no webhook named shop\n"
    assert json.dumps([each.name for each in (tmp_path / "keys").glob("webhook-*")]) == "[]"
