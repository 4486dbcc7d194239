"""Concurrent reads of many callers: few statements, and an invalid one fails alone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.accounts import PersonalData
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.log import SqliteLog
from interlock.server.system.supervision import Supervisor
from tests.support.accounts import AccountStory
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.steps import Story
from tests.support.tampering import shell


@asynchronous
async def test_concurrent_session_reads_are_batched(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        assert isinstance(surface.log, SqliteLog)
        stories = [Story() for _ in range(300)]
        for story in stories:
            await surface.log.append(story.begin("ada", "node-1"))
        statements: list[str] = []
        surface.log._reader._connection.set_trace_callback(statements.append)
        asked = [story.session_id for story in stories] * 2 + ["nobody"]
        found = await asyncio.gather(*(surface.log.load(SESSION_MACHINE, each) for each in asked))
        assert found == [story.session for story in stories] * 2 + [None]
        assert 0 < len(statements) < 30, "not one for each"


@asynchronous
async def test_email_addresses_are_compared_to_the_last_character(tmp_path: Path) -> None:
    """Even after what would end a text in C or JSON; what is no text at all fails alone."""
    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        story = AccountStory()
        await surface.log.append(story.register(surface.accounts.add(story.data)))
        asked = ("ada@example.org", "ada@example.org\0x", "ada@example.org\ud800", "ada@example.org ", "")
        found = await asyncio.gather(*map(surface.accounts.by_email, asked), return_exceptions=True)
        assert isinstance(found[0], PersonalData)
        assert isinstance(found[2], UnicodeEncodeError)
        assert [found[1], *found[3:]] == [None] * 3


@asynchronous
async def test_an_unreadable_session_fails_alone(tmp_path: Path) -> None:
    stories = [Story() for _ in range(20)]
    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        for story in stories:
            await surface.log.append(story.begin("ada"))
    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        with shell(tmp_path) as connection:
            for number, fold in ((3, "no JSON"), (7, b"\xff")):
                told = stories[number].session_id
                connection.execute("UPDATE instances SET fold = CAST(? AS TEXT) WHERE instance_id = ?", (fold, told))
        found = await asyncio.gather(
            *(surface.log.load(SESSION_MACHINE, s.session_id) for s in stories), return_exceptions=True
        )
        assert [number for number, each in enumerate(found) if isinstance(each, SurfaceFailed)] == [3, 7]
        good = [each for number, each in enumerate(found) if number not in {3, 7}]
        assert good == [story.session for number, story in enumerate(stories) if number not in {3, 7}]


@asynchronous
async def test_reads_beyond_the_queues_limit_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.server.surface.sqlite.reader._MAX_WAITING", 10)
    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        for _ in range(3):
            asked = await asyncio.gather(
                *(surface.log.load(SESSION_MACHINE, f"s{n}") for n in range(30)), return_exceptions=True
            )
            assert asked[:10] == [None] * 10
            assert [type(each) for each in asked[10:]] == [Overloaded] * 20


@asynchronous
async def test_an_abandoned_read_counts_until_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who leave, such as timed-out handshakes, must not queue more than the limit; nor is their work done."""
    monkeypatch.setattr("interlock.server.surface.sqlite.reader._MAX_WAITING", 3)
    gate, started = threading.Event(), threading.Event()
    ran: list[int] = []

    def slow(_connection: Connection) -> None:
        started.set()
        assert gate.wait(10)

    async with open_surface(tmp_path, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        assert isinstance(surface.log, SqliteLog)
        reader = surface.log._reader
        under_way = reader.run(slow)
        assert await asyncio.to_thread(started.wait, 10)
        gone = [reader.run(lambda _: ran.append(1)) for _ in range(2)]
        for each in gone:
            each.cancel()
        await asyncio.sleep(0)
        more = reader.run(lambda _: ran.append(2))
        waiting = surface.reading()
        gate.set()
        with pytest.raises(Overloaded):
            await more
        await under_way
        await eventually(lambda: surface.reading() == 0)
    assert waiting == 3
    assert ran == []
