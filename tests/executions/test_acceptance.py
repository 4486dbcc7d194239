"""Acceptance: one id is one execution, and only what may be submitted is recorded."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.context import Context
from interlock.intents import canonical_parameters
from interlock.machine.account.commands import Disable
from interlock.machine.errors import (
    CredentialRefused,
    ExecutionNotFound,
    IntentIdRefused,
    IntentReused,
    IntentUnknown,
    NotAuthenticated,
    ParametersRefused,
    RoleMissing,
    SessionEnded,
    TokenExpired,
)
from interlock.machine.session.commands import Reauthenticate
from interlock.machine.session.machine import authority_of
from interlock.server.runtime.door import commands
from interlock.server.runtime.executions.executions import Cursor
from tests.support.asynchronous import asynchronous
from tests.support.runtime import Bench, bench, notes


async def echo(_context: Context, text: str) -> str:
    return text


async def hang(_context: Context, _text: str) -> str:
    await asyncio.Event().wait()
    return ""


async def records(made: Bench) -> int:
    return len([each for each in await made.surface.log.after(0, 1000) if each.transition.kind == "execution"])


@asynchronous
async def test_an_accepted_intent_runs_and_its_result_is_found(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        accepted = await made.submit(session)
        ended = await made.runner.outcome(accepted.execution.execution_id)
        assert (accepted.execution.state, accepted.repeated, ended.state, ended.attempt) == (
            "accepted",
            False,
            "succeeded",
            1,
        )
        data = await made.executions.data(ended.execution_id)
        assert (data.parameters, data.result, data.error) == ('{"text":"hello"}', '{"text":"hello"}', None)
        assert await made.events(ended.execution_id) == ["accept", "start", "succeed"]
        history = await made.executions.history(ended.execution_id, 0, 9)
        assert accepted.receipt == history[0].receipt
        assert await made.executions.receipt(ended) == history[-1].receipt


@pytest.mark.checks("accepted_once")
@pytest.mark.parametrize("code", [echo, hang])
@asynchronous
async def test_one_id_submitted_many_times_at_once_is_accepted_once(tmp_path: Path, code: Any) -> None:
    """All answers name the one execution with the receipt of its one acceptance."""
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        answers = await asyncio.gather(*(made.submit(session) for _ in range(16)))
        assert Counter(each.repeated for each in answers) == {False: 1, True: 15}
        assert len({(each.execution.execution_id, each.receipt) for each in answers}) == 1
        again = await made.submit(session)
        assert again.repeated
        events = await made.events(again.execution.execution_id)
        assert events.count("accept") == 1
        assert events.count("start") <= 1


@asynchronous
async def test_a_repeat_from_another_session_of_the_account_is_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        first, second, others = await made.login(), await made.login(), await made.login("acc_2")
        accepted = await made.submit(first)
        assert (await made.submit(second)).execution.execution_id == accepted.execution.execution_id
        assert (await made.submit(others)).execution.execution_id != accepted.execution.execution_id


@asynchronous
async def test_a_repeat_may_order_and_space_its_parameters_otherwise(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(hang)) as made:
        session = await made.login()
        under = authority_of(session)
        first = await made.executions.accept(session, under, "i1", "notes.create", b'{ "text": "a\\u0062" }')
        again = await made.executions.accept(session, under, "i1", "notes.create", b'{"text":"ab"}')
        assert (again.repeated, again.execution.execution_id) == (True, first.execution.execution_id)


@pytest.mark.parametrize(("name", "text"), [("notes.create", "other"), ("notes.other", "hello")])
@asynchronous
async def test_an_id_that_was_used_for_something_else_is_refused(tmp_path: Path, name: str, text: str) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        await made.run(session)
        before = await records(made)
        with pytest.raises(IntentReused):
            await made.submit(session, name, text)
        assert await records(made) == before


@asynchronous
async def test_a_repeat_is_answered_after_its_realm_is_gone(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        ended = await made.run(session)
    async with bench(tmp_path, clock=made.clock) as made:
        again = await made.submit(session)
        assert (again.repeated, again.execution) == (True, ended)
        with pytest.raises(IntentUnknown):
            await made.submit(session, intent_id="i2")


IDS = {
    "empty": "",
    "too long": "x" * 129,
    "slash": "a/1",
    "NUL": "a\0",
    "newline": "a\nb",
    "C1": "a\x85",
    "DEL": "\x7f",
}


@pytest.mark.parametrize("intent_id", IDS.values(), ids=IDS)
@asynchronous
async def test_an_id_that_clients_may_not_use_is_refused(tmp_path: Path, intent_id: str) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        with pytest.raises(IntentIdRefused):
            await made.submit(session, intent_id=intent_id)
        assert await records(made) == 0
        assert (await made.run(session, intent_id="é" * 128)).state == "succeeded"


PARAMETERS = {
    "no JSON": b"{",
    "two values": b"{} {}",
    "not UTF-8": b'{"text":"\xff"}',
    "deep": b"[" * 100_000,
    "another type": b'{"text":1}',
    "unknown": b'{"txet":"a"}',
    "no object": b"[]",
    "too large": b'{"text":"' + b"x" * 65_536 + b'"}',
}


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@asynchronous
async def test_parameters_that_are_not_declared_are_refused(tmp_path: Path, parameters: bytes) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        with pytest.raises(ParametersRefused):
            await made.executions.accept(session, authority_of(session), "i1", "notes.create", parameters)
        assert await records(made) == 0
        assert len(made.executions.live) == 0


@asynchronous
async def test_an_intent_with_roles_is_only_for_accounts_with_one(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo, roles=["editors", "admins"])) as made:
        reader, editor = await made.login("acc_1", "readers"), await made.login("acc_2", "staff", "editors")
        with pytest.raises(RoleMissing):
            await made.submit(reader)
        assert await records(made) == 0
        assert (await made.run(editor)).state == "succeeded"


@asynchronous
async def test_an_anonymous_session_submits_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        session = (await made.sessions.begin("anonymous")).instance
        with pytest.raises(NotAuthenticated):
            await made.submit(session)
        assert await made.executions.page(session, None, 10) == []


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.parametrize("loss", ["end", "login", "disable", "overdue"])
@asynchronous
async def test_nothing_is_accepted_under_an_authority_that_is_lost(tmp_path: Path, loss: str) -> None:
    """The handler checked it before: the append decides."""
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        match loss:
            case "end":
                await made.end(session)
            case "login":
                again = Reauthenticate("acc_1", "exchange")
                await made.sessions.submit(session.session_id, *commands("acc_1", again))
            case "disable":
                await made.account("acc_1", Disable())
            case "overdue":
                made.clock.advance(3_600_000)
        with pytest.raises(CredentialRefused) as refused:
            await made.submit(session)
        assert isinstance(refused.value, TokenExpired if loss == "login" else SessionEnded)
        assert (await records(made), len(made.executions.live)) == (0, 0)


@pytest.mark.checks("no_execution_after_fence")
@asynchronous
async def test_an_acceptance_racing_the_end_of_its_session_is_before_it_or_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(hang)) as made:
        for number in range(20):
            session = await made.login()
            begin_end = asyncio.Event()

            async def submit_until_refused() -> int:
                accepted = 0
                while True:
                    if accepted == number % 4:  # noqa: B023  # as above
                        begin_end.set()  # noqa: B023  # as above
                    try:
                        await made.submit(session, intent_id=f"{number}-{accepted}")  # noqa: B023  # as above
                    except SessionEnded:
                        return accepted
                    accepted += 1

            submitting = asyncio.create_task(submit_until_refused())
            await begin_end.wait()
            await made.end(session)
            assert await submitting >= number % 4
        log = [each.transition for each in await made.surface.log.after(0, 10_000)]
        over: set[str] = set()
        for move in log:
            over |= {move.instance_id} if (move.kind, move.event) == ("session", "revoke") else set()
            assert move.event != "accept" or move.data.session_id not in over


@asynchronous
async def test_an_execution_is_found_by_its_owner_only(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        ada, bob = await made.login(), await made.login("acc_2")
        first = await made.run(ada, intent_id="i1")
        made.clock.advance(1)
        second = await made.run(ada, intent_id="i2")
        assert await made.executions.owned(ada, first.execution_id) == first
        for execution_id in (first.execution_id, "exe_x"):
            with pytest.raises(ExecutionNotFound):
                await made.executions.owned(bob, execution_id)
        page = await made.executions.page(ada, None, 1)
        assert page == [second]
        before = Cursor.of(page[-1])
        assert await made.executions.page(ada, before, 10) == [first]
        assert await made.executions.page(bob, None, 10) == []


@asynchronous
async def test_a_cancelled_caller_leaves_an_exact_count(tmp_path: Path) -> None:
    """What was handed to the log is recorded and runs all the same."""
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        asking = asyncio.create_task(made.submit(session))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        again = await made.submit(session)
        assert (await made.runner.outcome(again.execution.execution_id)).state == "succeeded"
        assert len(made.executions.live) == 0


def test_the_canonical_form_keeps_every_value() -> None:
    given = {"b": [1, 2.5, 10**30, None, True, "é\n"], "a": {"d": {}, "c": []}}
    text = canonical_parameters(json.dumps(given, indent=3).encode())
    assert json.loads(text) == given
    assert text == json.dumps(given, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert msgspec.json.decode(text) == given
