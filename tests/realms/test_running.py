"""Intents run in `interlock.testing` by the server's rules: one outcome, and after a crash what the effects declare."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import pytest

from interlock import Context, Fence, IntentFailed, Outcome, Realm, testing
from interlock.machine.errors import (
    IntentIdRefused,
    IntentReused,
    IntentUnknown,
    ParametersRefused,
    ResultRefused,
    RoleMissing,
)
from interlock.machine.execution.commands import execution_id_of
from tests.support.asynchronous import asynchronous


class Count(msgspec.Struct):
    to: int = 3


class Counted(msgspec.Struct):
    sum: int


class Seen(msgspec.Struct):
    session_id: str
    subject: str
    groups: list[str]
    execution_id: str
    intent_id: str
    attempt: int
    fence: list[int]


realm = Realm("numbers")


@realm.intent("numbers.add")
async def add(context: Context, parameters: Count) -> Counted:
    for number in range(parameters.to):
        await context.emit({"number": number})
    return Counted(sum(range(parameters.to)))


@realm.intent("numbers.look", effects="idempotent", roles=["readers"])
async def look(context: Context, parameters: Count) -> Seen:
    if context.attempt < parameters.to:
        await context.emit(context.fence)
        await asyncio.Event().wait()
    return Seen(
        context.session_id,
        context.subject,
        sorted(context.groups),
        context.execution_id,
        context.intent_id,
        context.attempt,
        list(context.fence),
    )


@realm.intent("numbers.fail")
async def fail(_context: Context, parameters: Count) -> Counted:
    raise IntentFailed(f"{parameters.to} is not enough")


@realm.intent("numbers.crash")
async def crash(_context: Context, _parameters: Count) -> Counted:
    raise ValueError("hunter2")


@realm.intent("numbers.defy")
async def defy(context: Context, _parameters: Count) -> Counted:
    await context.emit("before")
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    with suppress(asyncio.CancelledError):
        await context.submit("numbers.add", {})
    await context.emit("after")
    return Counted(1)


@realm.intent("numbers.lie")
async def lie(_context: Context, _parameters: Count) -> Counted:
    return None  # type: ignore[return-value]  # that is the case


@realm.intent("numbers.wait", timeout_s=0.01)
async def wait(_context: Context, _parameters: Count) -> None:
    await asyncio.Event().wait()


@realm.intent("numbers.hold", on_session_end="finish")
async def hold(context: Context, _parameters: Count) -> Counted:
    await context.emit("holding")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return Counted(int(context.cancelled))
    raise AssertionError


@realm.intent("numbers.twice", effects="idempotent")
async def twice(context: Context, parameters: Count) -> Counted:
    first = await context.submit("numbers.add", {"to": parameters.to})
    second = await context.submit("numbers.add", Count(parameters.to + 1))
    await context.emit([first.intent_id, second.intent_id])
    if context.attempt < 2:
        await asyncio.Event().wait()
    sums = [(await each.outcome()).result["sum"] for each in (first, second)]
    return Counted(sum(sums))


@realm.intent("numbers.swell")
async def swell(context: Context, _parameters: Count) -> None:
    await context.emit("x" * 16 * 1024)


@asynchronous
async def test_an_intent_gives_its_result_and_its_progress() -> None:
    run = await testing.realm(realm).submit("numbers.add", Count(3))
    assert await run.outcome() == Outcome(state="succeeded", result={"sum": 3})
    assert run.progress == [{"number": 0}, {"number": 1}, {"number": 2}]


@asynchronous
async def test_a_context_says_who_asks_and_for_which_execution() -> None:
    client = testing.realm(realm, subject="acc_1", groups=["readers", "owners"])
    outcome = await client.run("numbers.look", {"to": 1}, intent_id="mine")
    execution_id = execution_id_of("acc_1", "mine")
    assert outcome.result == {
        "session_id": client.session_id,
        "subject": "acc_1",
        "groups": ["owners", "readers"],
        "execution_id": execution_id,
        "intent_id": "mine",
        "attempt": 1,
        "fence": [1, 1],
    }


@asynchronous
async def test_what_a_server_refuses_is_refused() -> None:
    client = testing.realm(realm)
    with pytest.raises(IntentUnknown):
        await client.run("numbers.divide", {})
    with pytest.raises(ParametersRefused, match="to: Expected `int`"):
        await client.run("numbers.add", {"to": "3"})
    with pytest.raises(RoleMissing):
        await client.run("numbers.look", {})


@asynchronous
async def test_the_same_id_is_the_same_execution() -> None:
    client = testing.realm(realm)
    first, again = await asyncio.gather(*(client.submit("numbers.add", {"to": 3}, intent_id="mine") for _ in range(2)))
    assert first is again
    assert (await first.outcome()).result == {"sum": 3}
    assert len(first.progress) == 3
    for name, to in (("numbers.add", 4), ("numbers.fail", 3)):
        with pytest.raises(IntentReused):
            await client.submit(name, {"to": to}, intent_id="mine")


@asynchronous
async def test_a_repeat_is_found_by_the_servers_rule() -> None:
    client = testing.realm(realm, groups=["readers"])
    first = await client.submit("numbers.look", {"to": 1}, intent_id="mine")
    client.groups = frozenset()
    assert await client.submit("numbers.look", {"to": 1.0}, intent_id="mine") is first
    with pytest.raises(RoleMissing):
        await client.submit("numbers.look", {"to": 1}, intent_id="another")


@asynchronous
async def test_ids_are_refused_by_the_servers_rule() -> None:
    client = testing.realm(realm)
    for refused in ("", "a/1", "a\n", "\ud800", "a" * 129):
        with pytest.raises(IntentIdRefused):
            await client.submit("numbers.add", {}, intent_id=refused)
    assert (await client.run("numbers.add", {}, intent_id="a" * 128)).state == "succeeded"


@asynchronous
async def test_an_error_of_the_code_is_the_outcome_and_stays_at_hand() -> None:
    run = await testing.realm(realm).submit("numbers.fail", {"to": 1})
    assert await run.outcome() == Outcome(state="failed", reason="error", error="1 is not enough")
    assert isinstance(run.exception, IntentFailed)


@asynchronous
async def test_the_text_of_an_unexpected_error_stays_in_the_test() -> None:
    run = await testing.realm(realm).submit("numbers.crash", {})
    outcome = await run.outcome()
    assert outcome == Outcome(state="failed", reason="error", error="the realm's code raised ValueError")
    assert str(run.exception) == "hunter2"


@asynchronous
async def test_code_that_goes_on_after_a_cancel_emits_and_submits_nothing() -> None:
    client = testing.realm(realm)
    run = await client.submit("numbers.defy", {})
    await run.emitted()
    run.cancel()
    assert (await run.outcome()).state == "cancelled"
    assert run.progress == ["before"]
    with pytest.raises(KeyError):
        client.by_id(execution_id_of(client.subject, f"{run.execution_id}/1"))


@pytest.mark.parametrize(
    ("name", "text"), [("numbers.lie", "declares Counted"), ("numbers.swell", "the limit is 16384")]
)
def test_code_that_breaks_its_declaration_fails(name: str, text: str) -> None:
    async def scenario() -> None:
        run = await testing.realm(realm).submit(name, {})
        assert (await run.outcome()).state == "failed"
        assert isinstance(run.exception, ResultRefused)
        assert text in str(run.exception)

    asyncio.run(scenario())


@asynchronous
async def test_an_execution_ends_at_its_deadline() -> None:
    assert await testing.realm(realm).run("numbers.wait", {}) == Outcome(state="failed", reason="timeout")


@asynchronous
async def test_a_cancelled_execution_has_no_result_whatever_its_code_returns() -> None:
    run = await testing.realm(realm).submit("numbers.hold", {})
    await run.emitted()
    run.cancel()
    assert await run.outcome() == Outcome(state="cancelled", reason="asked")


@asynchronous
async def test_the_end_of_the_session_cancels_what_is_declared_so() -> None:
    client = testing.realm(realm, groups=["readers"])
    held, looking = await client.submit("numbers.hold", {}), await client.submit("numbers.look", {"to": 9})
    await held.emitted()
    await looking.emitted()
    client.end_session()
    assert await looking.outcome() == Outcome(state="cancelled", reason="session_ended")
    held.cancel()
    assert (await held.outcome()).reason == "asked"


@asynchronous
async def test_after_a_crash_an_intent_with_effects_once_has_failed() -> None:
    run = await testing.realm(realm).submit("numbers.hold", {})
    await run.emitted()
    run.crash()
    assert await run.outcome() == Outcome(state="failed", reason="interrupted")
    assert run.attempt == 1


@asynchronous
async def test_after_a_crash_an_idempotent_intent_runs_again() -> None:
    run = await testing.realm(realm, groups=["readers"]).submit("numbers.look", {"to": 3}, intent_id="mine")
    for crashes in (1, 2):
        await run.emitted(crashes)
        run.crash()
    result = (await run.outcome()).result
    assert (result["attempt"], result["execution_id"]) == (3, run.execution_id)
    fences = [Fence(*each) for each in (*run.progress, result["fence"])]
    assert fences == sorted(set(fences))


@asynchronous
async def test_a_repeated_attempt_has_the_children_of_the_first() -> None:
    run = await testing.realm(realm).submit("numbers.twice", {"to": 3})
    await run.emitted()
    run.crash()
    assert (await run.outcome()).result == {"sum": 3 + 6}
    children = [f"{run.execution_id}/1", f"{run.execution_id}/2"]
    assert run.progress == [children, children]
