"""Limits: how many executions there may be, counted exactly, and what executions may submit."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.context import Context, Outcome
from interlock.machine.errors import (
    InterlockError,
    NestedTooDeep,
    RateLimited,
    SessionEnded,
    TooManyExecutions,
)
from interlock.machine.execution.commands import Cancel
from interlock.machine.ledger import Record
from interlock.realm import Realm
from interlock.server.runtime.executions.live import ExecutionLimits, LiveExecutions
from tests.support.asynchronous import asynchronous
from tests.support.executions import ExecutionStory
from tests.support.running import eventually
from tests.support.runtime import LIMITS, Text, bench, notes


async def echo(_context: Context, text: str) -> str:
    return text


async def hang(_context: Context, _text: str) -> str:
    await asyncio.Event().wait()
    return ""


def limits(**changed: int) -> ExecutionLimits:
    return msgspec.structs.replace(LIMITS, **changed)


@pytest.mark.parametrize("whose", ["session", "account", "realm"])
@asynchronous
async def test_no_more_executions_than_allowed_have_no_outcome(tmp_path: Path, whose: str) -> None:
    """Whatever arrives at once. Repeats don't count, and an end makes room."""
    async with bench(tmp_path, notes(hang), limits=limits(**{whose: 3})) as made:
        ada, ada_again, bob = await made.login(), await made.login(), await made.login("acc_2")
        asked = [made.submit(ada, intent_id=f"i{number}") for number in range(10)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert Counter(map(type, answers))[TooManyExecutions] == 7
        assert len(made.executions.live) == 3
        accepted = next(each for each in answers if not isinstance(each, BaseException))
        assert (await made.submit(ada, intent_id=accepted.execution.intent_id)).repeated
        others: dict[str, list[Any]] = {"session": [ada_again, bob], "account": [bob], "realm": []}
        for number, session in enumerate((ada_again, bob)):
            if session in others[whose]:
                await made.submit(session, intent_id=f"other {number}")
            else:
                with pytest.raises(TooManyExecutions, match=whose):
                    await made.submit(session, intent_id=f"other {number}")
        await made.cancel(ada, accepted.execution.execution_id)
        assert not (await made.submit(ada, intent_id="one more")).repeated
        with pytest.raises(TooManyExecutions):
            await made.submit(ada, intent_id="two more")


@asynchronous
async def test_the_count_survives_a_restart(tmp_path: Path) -> None:
    """Executions of every node count."""
    async with bench(tmp_path, notes(hang, effects="idempotent"), limits=limits(account=3), ends="crashes") as made:
        session = await made.login()
        for number in range(3):
            await made.submit(session, intent_id=f"i{number}")
        await eventually(lambda: made.runner.running == 3)
    async with bench(
        tmp_path, notes(hang), clock=made.clock, limits=limits(account=3), node="n2", ends="crashes"
    ) as made:
        with pytest.raises(TooManyExecutions):
            await made.submit(session, intent_id="i3")
    async with bench(tmp_path, clock=made.clock, limits=limits(account=3)) as made:
        await eventually(lambda: len(made.executions.live) == 0)


@asynchronous
async def test_a_refused_acceptance_does_not_count(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(hang), limits=limits(account=1)) as made:
        ended, session = await made.login(), await made.login()
        await made.end(ended)
        for _ in range(3):
            with pytest.raises(SessionEnded):
                await made.submit(ended)
        assert not (await made.submit(session)).repeated


class Chain:
    """A realm whose code submits as many children in a chain as its text says."""

    def __init__(self) -> None:
        self.realm = Realm("notes")
        self.ids: list[str] = []
        self.failed: list[InterlockError] = []
        self.outcomes: list[Outcome] = []

        @self.realm.intent("notes.create", effects="idempotent", timeout_s=60)
        async def create(context: Context, parameters: Text) -> Text:
            self.ids.append(context.intent_id)
            if parameters.text == "0":
                return parameters
            try:
                child = await context.submit("notes.create", Text(str(int(parameters.text) - 1)))
            except InterlockError as error:
                self.failed.append(error)
                raise
            self.outcomes.append(await child.outcome())
            return parameters


@asynchronous
async def test_an_execution_submits_others_in_its_session(tmp_path: Path) -> None:
    chain = Chain()
    async with bench(tmp_path, chain.realm) as made:
        session = await made.login()
        ended = await made.run(session, text="1")
        (child,) = [each for each in await made.executions.page(session, None, 9) if each != ended]
        assert (ended.state, child.state, child.parent) == ("succeeded", "succeeded", ended.execution_id)
        assert (child.session_id, child.subject) == (session.session_id, "acc_1")
        assert chain.ids == ["i1", f"{ended.execution_id}/1"]
        assert chain.outcomes == [Outcome(state="succeeded", result={"text": "0"})]
        assert made.submissions == ["acc_1"]


@asynchronous
async def test_a_repeated_attempt_finds_the_children_of_the_first(tmp_path: Path) -> None:
    first = asyncio.Event()
    seen: list[str] = []
    realm = Realm("notes")

    @realm.intent("notes.create", effects="idempotent", timeout_s=60)
    async def create(context: Context, parameters: Text) -> Text:
        if parameters.text == "child":
            return parameters
        seen.append((await context.submit("notes.create", Text("child"))).execution_id)
        if not first.is_set():
            first.set()
            await asyncio.Event().wait()
        return parameters

    async with bench(tmp_path, realm, ends="crashes") as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await first.wait()
    async with bench(tmp_path, realm, clock=made.clock) as made:
        assert (await made.runner.outcome(execution_id)).attempt == 2
        assert len(seen) == 2
        assert len(set(seen)) == 1
        assert len(await made.executions.page(session, None, 9)) == 2


@asynchronous
async def test_chains_of_executions_have_a_limit(tmp_path: Path) -> None:
    chain = Chain()
    async with bench(tmp_path, chain.realm, limits=limits(depth=3)) as made:
        session = await made.login()
        await made.run(session, text="2")
        assert chain.failed == []
        await made.run(session, text="9", intent_id="i2")
        assert [type(each) for each in chain.failed] == [NestedTooDeep]
        assert len(await made.executions.page(session, None, 99)) == 6


@asynchronous
async def test_submissions_by_code_have_a_rate_limit(tmp_path: Path) -> None:
    chain = Chain()

    def refuse(_subject: str) -> None:
        raise RateLimited(7)

    async with bench(tmp_path, chain.realm) as made:
        made.runner._parts.count_submission = refuse
        ended = await made.run(await made.login(), text="1")
        assert ended.state == "failed"
        assert [type(each) for each in chain.failed] == [RateLimited]
        assert (await made.executions.data(ended.execution_id)).error == "too many requests; try again later"


@pytest.mark.checks("no_execution_after_fence")
@asynchronous
async def test_code_that_may_finish_submits_nothing_after_its_session(tmp_path: Path) -> None:
    ended = asyncio.Event()
    refused: list[InterlockError] = []

    async def submit(context: Context, text: str) -> str:
        await ended.wait()
        try:
            await context.submit("notes.create", Text("child"))
        except InterlockError as error:
            refused.append(error)
        return text

    async with bench(tmp_path, notes(submit, on_session_end="finish")) as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await made.reached(execution_id, "running")
        await made.end(session)
        ended.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"
        assert [type(each) for each in refused] == [SessionEnded]
        assert len(await made.executions.page(session, None, 9)) == 1


@asynchronous
async def test_an_execution_learns_how_its_child_failed(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []

    async def parent(context: Context, text: str) -> str:
        if text == "child":
            raise ValueError
        outcomes.append(await (await context.submit("notes.create", Text("child"))).outcome())
        return text

    async with bench(tmp_path, notes(parent)) as made:
        await made.run(await made.login())
        assert outcomes == [Outcome(state="failed", reason="error", error="the realm's code raised ValueError")]


def test_an_execution_counts_for_the_session_that_has_submitted_it() -> None:
    """Both processes were about to accept the same intent, in two sessions of the account."""
    live, story = LiveExecutions(LIMITS), ExecutionStory()
    live.reserve(story.execution.execution_id, "session-2", "acc_1", "notes")
    (accepted,) = story.accept()
    live.observe(Record(1, accepted.transition, b""), None)
    live.release(story.execution.execution_id)
    assert live.of("session", "session-1") == live.of("account", "acc_1") == [story.execution.execution_id]
    assert live.of("session", "session-2") == []
    (ended,) = story.tell(Cancel("asked"))
    live.observe(Record(2, ended.transition, b""), None)
    assert live.of("session", "session-1") == live.of("account", "acc_1") == live.of("realm", "notes") == []
