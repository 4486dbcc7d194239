"""The machine at any position of the log: the same counts as a fold of the records, and bounded work."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from interlock.server.runtime.console import past
from interlock.server.runtime.console.chain import ChainCheck
from interlock.server.runtime.console.past import Past
from interlock.server.surface.memory import MemoryLog
from tests.support.admin import Admin
from tests.support.asynchronous import asynchronous
from tests.support.client import hello, logged_in
from tests.support.log import records
from tests.support.operators import LOOK, MODULE, signed_in
from tests.support.running import scenario
from tests.support.server import ServerProcess
from tests.support.steps import Story


def folded(log: list[dict[str, Any]], kind: str) -> dict[str, int]:
    """Return the number of instances in each state, by their last record."""
    last = {each["instance_id"]: each["target"] for each in log if each["kind"] == kind}
    return dict(Counter(last.values()))


@scenario()
async def test_the_counts_at_a_position_are_the_fold_of_the_log(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator, await logged_in(server.url) as client:
        async with client.connect() as socket:
            await hello(socket)
        await client.request("POST", "/api/auth/logout", json={})
        log = records(server.data)
        for position in (1, len(log) // 2, len(log) - 2, len(log)):
            numbers = (await operator.get("/console/numbers", MODULE, at=position)).json()
            assert (numbers["position"], numbers["counted"]) == (position, position)
            for kind in ("session", "account"):
                counted = {state: n for state, n in numbers["states"][kind].items() if n}
                assert counted == folded(log[:position], kind), (kind, position)


@scenario()
async def test_a_time_leads_to_the_last_record_before_it(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator:
        log = records(server.data)
        times = [(await operator.get("/console/numbers", MODULE, at=n)).json()["at_ms"] for n in range(1, len(log) + 1)]
        for at_ms in {*times, times[-1] + 1000}:
            found = (await operator.get("/console/numbers", MODULE, at_ms=at_ms)).json()["position"]
            assert found == max(n for n, each in enumerate(times, 1) if each <= at_ms)
        assert (await operator.get("/console/numbers", MODULE, at_ms=times[0] - 1)).json()["position"] == 0


@pytest.mark.parametrize("query", ["at=999999999", "at=-1", "at=x", "at_ms=9007199254740993", "more=1"])
@scenario()
async def test_a_position_that_does_not_exist_is_refused(server: ServerProcess, secret: str, query: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator:
        assert (await operator.get(f"/console/numbers?{query}", MODULE)).status_code == 400


@asynchronous
async def test_a_long_log_is_counted_in_pieces_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that runs out of time says how far it came; what it counted is not counted again."""
    log, story = MemoryLog(), Story()
    await log.append(story.begin("ada", "node-1"))
    for _ in range(40):
        await log.append(story.touch())
    pieces: list[tuple[int, int]] = []
    tally = log.tally

    async def counted(after: int, to: int) -> Any:
        pieces.append((after, to))
        return await tally(after, to)

    monkeypatch.setattr(log, "tally", counted)
    monkeypatch.setattr(past, "PIECE", 8)
    monkeypatch.setattr(past, "_PATIENCE_S", 0.0)
    asked = Past(log)
    reached = [(await asked.at(43)).counted for _ in range(6)]
    assert reached == [8, 16, 24, 32, 40, 43]
    assert [each for each in pieces if each[1] - each[0] > 8] == []
    moment = await asked.at(43)
    assert moment.states == {("session", "created"): 0, ("session", "authenticated"): 0, ("session", "connected"): 1}


@scenario()
async def test_the_log_is_paged_by_transition_and_actor(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator, Admin(server.url, secret) as admin:
        for _ in range(60):
            client = await logged_in(server.url)
            await client.http.aclose()
        log = records(server.data)
        path, found = "/console/log?kind=session&event=authenticate", []
        while path:
            page = (await operator.get(path)).text
            rows = _positions(page)
            assert len(rows) <= 50
            found += rows
            path = _more(page)
        wanted = [n for n, each in enumerate(log, 1) if (each["kind"], each["event"]) == ("session", "authenticate")]
        assert found == wanted[::-1]
        trail = [each["position"] for page in await admin.pages("/audit") for each in page]
        by_ada = _positions((await operator.get("/console/log", actor="admin:ada")).text)
        assert by_ada == trail[::-1][:50]


def _positions(page: str) -> list[int]:
    return [int(each.partition('"')[0]) for each in page.split('href="/console?at=')[1:]]


def _more(page: str) -> str:
    before, found, _ = page.partition('" rel="next"')
    return before.rpartition('href="')[2].replace("&amp;", "&") if found else ""


@asynchronous
async def test_a_changed_digest_stops_the_check_of_the_chain() -> None:
    log, story = MemoryLog(), Story()
    await log.append(story.begin("ada", "node-1"))
    await log.append(story.touch())
    check = ChainCheck(log)
    await check.advance(3)
    assert (check.verified, check.broken) == (3, None)
    entry = log.store.entries[3]
    log.store.entries[3] = entry._replace(record=msgspec.structs.replace(entry.record, digest=bytes(32)))
    await check.advance(4)
    assert check.verified == 3
    assert check.broken is not None
    assert check.broken.startswith("record 4")
