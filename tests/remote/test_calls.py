"""Calls of a remote realm: what is posted, what each answer becomes, and what is tried again for which effects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interlock.loading import load_realms
from interlock.machine.errors import OutcomeTooLate, RealmInvalid, WebhookSignatureInvalid
from interlock.realm import Realms
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.keyring import open_keyring
from interlock.server.guard.keys.rotation import TokenLifetimes
from interlock.server.guard.realm_secrets import RealmSecrets
from interlock.server.outgoing.destinations import Destinations
from interlock.server.outgoing.signatures import signed_headers, verified_id
from interlock.server.runtime.executions.remote_realms import Failed, RemoteRealms, Succeeded
from interlock.server.telemetry.metrics_recorder import MetricsRecorder
from interlock.testing import RealmClient
from tests.support.asynchronous import on_uvloop
from tests.support.own_log import logging_to_file
from tests.support.running import eventually
from tests.support.scripted import Exchange, Received, Scripted, Step, answer, hang_up, scripted

DECLARATION = """
name = "billing"
url = "{url}"
cancel_url = "{url}/cancel"
[intents."billing.charge"]
effects = "{effects}"
timeout_s = {timeout_s}
[intents."billing.charge".parameters]
type = "object"
required = ["cents"]
additionalProperties = false
properties.cents = {{ type = "integer" }}
[intents."billing.charge".result]
type = "object"
"""
CHARGE = {"cents": 5}


class Calling(NamedTuple):
    remote: RemoteRealms
    client: RealmClient
    realm: Scripted
    signing: RealmSecrets
    secret: str


@asynccontextmanager
async def calling(
    folder: Path, *steps: Step, effects: str = "once", timeout_s: float = 300, secret: bool = True
) -> AsyncIterator[Calling]:
    clock = SystemClock()
    open_keyring(folder / "keys", clock, TokenLifetimes(1000, 1000))
    signing = RealmSecrets(folder / "keys")
    text = signing.create("billing", clock.now_ms()) if secret else ""
    remote = RemoteRealms(Destinations(("127.0.0.0/8", "::1")), signing, clock)
    async with scripted(*steps) as realm:
        file = folder / "billing.toml"
        file.write_text(DECLARATION.format(url=realm.url, effects=effects, timeout_s=timeout_s))
        realms: Realms = load_realms([str(file)], remote.call)
        yield Calling(remote, RealmClient(realms, "acc_ada", frozenset({"b", "a"})), realm, signing, text)
    await remote.close()


def verified(request: Received, secret: str) -> str:
    """Return the id of a message that the server has signed with ``secret``."""
    return verified_id([secret], request.headers, request.body, SystemClock().now_ms())


def signed_by(secret: str, body: bytes) -> dict[str, str]:
    return signed_headers([secret], "exe_1", body, SystemClock().now_ms())


async def hang(exchange: Exchange) -> None:
    await exchange.closed_by_peer()


@on_uvloop
async def test_the_post_says_who_asks_for_what_and_is_signed(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(200, {"result": {"id": "c1"}})) as calls:
        run = await calls.client.submit("billing.charge", CHARGE, intent_id="mine")
        outcome = await run.outcome()
        assert (outcome.state, outcome.result) == ("succeeded", {"id": "c1"})
        (request,) = calls.realm.received
        assert verified(request, calls.secret) == run.execution_id
        body = request.json
        assert body.pop("deadline").endswith("Z")
        assert body == {
            "execution_id": run.execution_id,
            "intent_id": "mine",
            "name": "billing.charge",
            "parameters": CHARGE,
            "session_id": "ses_test",
            "subject": "acc_ada",
            "groups": ["a", "b"],
            "attempt": 1,
            "fence": {"position": 1, "attempt": 1},
        }


MAY = "; the effects may have happened"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answer(200, {"error": "no funds"}), "no funds"),
        (answer(200, {"error": "x" * 2000}), "x" * 1000),
        (answer(200, {}), "the realm answered 200 without a result or an error"),
        (answer(200, {"result": {}, "error": "both"}), "the realm answered 200 without a result or an error"),
        (answer(200, b"<html>"), "the realm answered 200 without a result or an error"),
        (answer(200, {"result": 5}), 'the result does not fit its declared schema: the value is not of type "object"'),
        (answer(204), "the realm answered 204, not 200 or 202"),
        (answer(302, location="http://localhost/"), "the realm answered 302, and redirects are not followed"),
        (answer(400), "the realm answered 400"),
        (answer(409, {"error": "other parameters"}), "the realm answered 409: other parameters"),
        (answer(429), "the realm answered 429"),
        (answer(500), f"the realm answered 500{MAY}"),
        (answer(503, {"error": "down"}), f"the realm answered 503: down{MAY}"),
        (
            hang_up,
            f"the realm was called and did not answer{MAY}",
        ),
        (
            answer(200, b"x" * 300_000),
            f"the realm was called and did not answer{MAY}",
        ),
    ],
)
def test_an_intent_with_effects_once_is_posted_once(tmp_path: Path, step: Step, error: str) -> None:
    @on_uvloop
    async def check() -> None:
        async with calling(tmp_path, step, answer(200, {"result": {}})) as calls:
            outcome = await calls.client.run("billing.charge", CHARGE)
            assert (outcome.state, outcome.reason, outcome.error) == ("failed", "error", error)
            assert len(calls.realm.received) == 1

    check()


@pytest.mark.parametrize("step", [answer(500), answer(503, retry_after="0"), answer(429), hang_up])
def test_an_idempotent_intent_is_posted_until_the_realm_answers(tmp_path: Path, step: Step) -> None:
    @on_uvloop
    async def check() -> None:
        async with calling(tmp_path, step, step, answer(200, {"result": {"n": 3}}), effects="idempotent") as calls:
            outcome = await calls.client.run("billing.charge", CHARGE)
            assert (outcome.state, outcome.result) == ("succeeded", {"n": 3})
            assert len({each.body for each in calls.realm.received}) == 1
            assert len({each.headers["webhook-id"] for each in calls.realm.received}) == 1
            assert len(calls.realm.received) == 3

    check()


@pytest.mark.parametrize("status", [302, 400, 404, 409, 422])
def test_an_idempotent_intent_is_not_posted_again_after_a_refusal(tmp_path: Path, status: int) -> None:
    @on_uvloop
    async def check() -> None:
        async with calling(tmp_path, answer(status), answer(200, {"result": {}}), effects="idempotent") as calls:
            assert (await calls.client.run("billing.charge", CHARGE)).state == "failed"
            assert len(calls.realm.received) == 1

    check()


class Counts(MetricsRecorder):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def remote_call(self, realm: str, result: str) -> None:
        self.calls.append((realm, result))


@pytest.mark.parametrize(
    ("step", "effects", "results"),
    [
        (answer(200, {"error": "no funds"}), "once", ["outcome"]),
        (answer(200, {}), "once", ["unusable"]),
        (answer(404), "idempotent", ["refused"]),
        (answer(503, retry_after="0"), "idempotent", ["refused", "outcome"]),
        (hang_up, "idempotent", ["unanswered", "outcome"]),
        (hang_up, "once", ["unanswered"]),
    ],
)
def test_each_call_is_counted_by_its_result(tmp_path: Path, step: Step, effects: str, results: list[str]) -> None:
    @on_uvloop
    async def check() -> None:
        async with calling(tmp_path, step, answer(200, {"result": {}}), effects=effects) as calls:
            calls.remote.metrics = counts = Counts()
            await calls.client.run("billing.charge", CHARGE)
            assert counts.calls == [("billing", each) for each in results]

    check()


@on_uvloop
async def test_calls_that_were_not_sent_and_that_were_accepted_are_counted(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(202), secret=False) as calls:
        calls.remote.metrics = counts = Counts()
        run = await calls.client.submit("billing.charge", CHARGE)
        await eventually(lambda: counts.calls)
        calls.signing.create("billing", 1)
        await eventually(lambda: counts.calls[-1][1] == "accepted")
        assert {result for _, result in counts.calls} == {"unreached", "accepted"}
        # The notice is no call.
        run.cancel()
        await calls.realm.wait(2)
        assert len([each for each in counts.calls if each[1] != "unreached"]) == 1


@on_uvloop
async def test_an_answer_without_an_outcome_has_a_line_in_the_log(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with calling(tmp_path, answer(200, b"<html>")) as calls:
            run = await calls.client.submit("billing.charge", CHARGE)
            await run.outcome()
        (row,) = [row for row in map(json.loads, lines()) if row["event"] == "remote.failed"]
    assert (row["realm"], row["execution_id"]) == ("billing", run.execution_id)
    assert row["because"] == "the realm answered 200 without a result or an error"


@on_uvloop
async def test_no_try_follows_that_would_come_after_the_deadline(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(503, retry_after="400"), effects="idempotent") as calls:
        outcome = await calls.client.run("billing.charge", CHARGE)
        assert outcome.error == "the realm answered 503, and there is no time for another try"


@pytest.mark.parametrize("effects", ["once", "idempotent"])
def test_a_realm_that_was_not_reached_is_tried_again_whatever_the_effects(tmp_path: Path, effects: str) -> None:
    @on_uvloop
    async def check() -> None:
        # Without a secret nothing is sent either. When it is there, the next try uses it.
        async with calling(tmp_path, answer(200, {"result": {}}), effects=effects, secret=False) as calls:
            run = await calls.client.submit("billing.charge", CHARGE)
            await asyncio.sleep(0)
            secret = calls.signing.create("billing", 1)
            assert (await run.outcome()).state == "succeeded"
            (request,) = calls.realm.received
            verified(request, secret)

    check()


@on_uvloop
async def test_an_accepted_call_gets_its_outcome_from_a_callback(tmp_path: Path) -> None:
    cases: list[tuple[Succeeded | Failed, tuple[Any, ...]]] = [
        (Succeeded({"id": "c1"}), ("succeeded", {"id": "c1"}, None)),
        (Failed("no funds"), ("failed", None, "no funds")),
    ]
    for outcome, expected in cases:
        async with calling(tmp_path / expected[0], answer(202)) as calls:
            run = await calls.client.submit("billing.charge", CHARGE)
            await calls.realm.wait(1)
            calls.remote.report("billing", run.execution_id, 1, outcome)
            # A repeat changes nothing.
            calls.remote.report("billing", run.execution_id, 1, Failed("again"))
            found = await run.outcome()
            assert (found.state, found.result, found.error) == expected
            with pytest.raises(OutcomeTooLate):
                calls.remote.report("billing", run.execution_id, 1, outcome)


@on_uvloop
async def test_a_callback_may_arrive_before_the_response(tmp_path: Path) -> None:
    async with calling(tmp_path, hang) as calls:
        run = await calls.client.submit("billing.charge", CHARGE)
        await calls.realm.wait(1)
        calls.remote.report("billing", run.execution_id, 1, Succeeded({}))
        assert (await run.outcome()).state == "succeeded"


@on_uvloop
async def test_a_callback_for_anything_but_the_running_attempt_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(202)) as calls:
        run = await calls.client.submit("billing.charge", CHARGE)
        await calls.realm.wait(1)
        for realm, execution_id, attempt in [
            ("shop", run.execution_id, 1),
            ("billing", "exe_other", 1),
            ("billing", run.execution_id, 2),
        ]:
            with pytest.raises(OutcomeTooLate):
                calls.remote.report(realm, execution_id, attempt, Succeeded({}))
        calls.remote.report("billing", run.execution_id, 1, Succeeded({}))
        assert (await run.outcome()).state == "succeeded"


@on_uvloop
async def test_a_cancellation_closes_the_connection(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        if await exchange.closed_by_peer():
            closed.set()

    async with calling(tmp_path, wait) as calls:
        run = await calls.client.submit("billing.charge", CHARGE)
        await calls.realm.wait(1)
        calls.client.end_session()
        await closed.wait()
        assert (await run.outcome()).state == "cancelled"


@on_uvloop
async def test_a_cancellation_is_posted_to_the_url_for_it(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(202), answer(204)) as calls:
        run = await calls.client.submit("billing.charge", CHARGE, intent_id="mine")
        await calls.realm.wait(1)
        run.cancel()
        notice = await calls.realm.wait(2)
        assert notice.path == "/interlock/cancel"
        assert notice.json == {
            "execution_id": run.execution_id,
            "intent_id": "mine",
            "name": "billing.charge",
            "attempt": 1,
        }
        message_id = verified(notice, calls.secret)
        assert message_id == f"{run.execution_id}.1.cancel"


@on_uvloop
async def test_an_idempotent_intent_is_posted_again_after_a_crash(tmp_path: Path) -> None:
    async with calling(tmp_path, hang, answer(200, {"result": {}}), effects="idempotent") as calls:
        run = await calls.client.submit("billing.charge", CHARGE)
        await calls.realm.wait(1)
        run.crash()
        assert (await run.outcome()).state == "succeeded"
        first, second = (each for each in calls.realm.received if each.path == "/interlock")
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == run.execution_id
        assert [each.json["attempt"] for each in (first, second)] == [1, 2]
        assert first.json["fence"]["position"] < second.json["fence"]["position"]


@on_uvloop
async def test_a_callback_is_authenticated_by_the_secrets_of_its_own_realm(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(202)) as calls:
        body = b"{}"
        signed = signed_by(calls.secret, body)
        assert calls.remote.authenticate("billing", signed, body) == "exe_1"
        newer = calls.signing.create("billing", 2)
        assert calls.remote.authenticate("billing", signed, body) == "exe_1"
        assert calls.remote.authenticate("billing", signed_by(newer, body), body) == "exe_1"
        calls.signing.retire("billing")
        other = calls.signing.create("shop", 3)
        for realm, key in [("billing", calls.secret), ("shop", other), ("billing", other), ("../billing", newer)]:
            with pytest.raises(WebhookSignatureInvalid):
                calls.remote.authenticate(realm, signed_by(key, body), body)


@on_uvloop
async def test_a_url_that_is_none_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    async with calling(tmp_path, answer(200)) as calls:
        file = tmp_path / "inside.toml"
        for url in (
            "ftp://billing.example.org/x",
            "https://user:key@billing.example.org/",
            "https://a/#b",
            "https://[::1",
        ):
            file.write_text(DECLARATION.format(url=url, effects="once", timeout_s=1))
            with pytest.raises(RealmInvalid, match=r"inside.toml: url .*: the URL "):
                load_realms([str(file)], calls.remote.call)
