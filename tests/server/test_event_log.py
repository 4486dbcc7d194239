"""Events over a real server: a subscriber learns of what its scopes cover, without a gap, as pages and as a stream."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import problem, recorded_admin_token
from tests.support.client import Client, logged_in
from tests.support.log import interlock, records
from tests.support.running import eventually, scenario, until
from tests.support.server import running_server
from tests.support.subscriber import Subscriber, subscriber_token
from tests.support.tallies import REALM, create


async def visit(url: str, visitors: int) -> list[str]:
    """Create and end sessions: each has a create, a refresh and a revoke. Return their ids, in the order of their ends."""
    ended = []
    async with Client(url) as client:
        for _ in range(visitors):
            (await client.begin()).raise_for_status()
            (await client.refresh()).raise_for_status()
            ended.append(client.session_id)
            (await client.request("POST", "/api/auth/logout")).raise_for_status()
    return ended


def positions(data: Path, event: str) -> list[int]:
    return [each["position"] for each in records(data) if each["kind"] == "session" and each["event"] == event]


@scenario()
async def test_pages_hold_each_end_of_a_session_once_in_order(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "session-ends")
        ended = await visit(server.url, 7)
        async with Subscriber(server.url, secret) as shop:
            for limit in (1, 3, 1000):
                found = await shop.every(limit=limit)
                assert [each["data"]["session_id"] for each in found] == ended
                assert [each["data"]["position"] for each in found] == positions(server.data, "revoke")
                assert {each["type"] for each in found} == {"session.revoke"}
            page = await shop.page()
            assert (page["events"], page["more"]) == ([], False)
            more = await visit(server.url, 1)
            later = await shop.every(page["cursor"])
            assert [each["data"]["session_id"] for each in later] == more, "a first call names where to continue from"
            problem(await shop.http.get(f"/api/events?after={10**6}"), 400, "bad-request")


@scenario()
async def test_a_sessions_end_names_its_account_and_reason(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with (
            Subscriber(server.url, subscriber_token(server.data, "session-ends")) as shop,
            await logged_in(server.url) as user,
        ):
            session = await user.session()
            (await user.request("POST", "/api/auth/logout")).raise_for_status()
            (event,) = await shop.every()
            data = event["data"]
            assert (data["subject"], data["reason"]) == (session["subject"], "logout")
            assert (data["session_id"], data["state"]) == (session["session_id"], "expired")


@scenario()
async def test_the_event_stream_has_no_gap_and_no_repeat_over_reconnects(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "session-ends")
        await visit(server.url, 20)
        chance = random.Random(7)  # noqa: S311  # not a secret

        async def collect() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            place: dict[str, int] = {"after": 0}
            async with Subscriber(server.url, secret) as shop:
                while len(found) < 80:
                    async with shop.follow(**place) as stream:
                        for _ in range(chance.randint(1, 12)):
                            found.append(await stream.event())
                            if len(found) == 80:
                                break
                        assert stream.last_event_id is not None
                        place = {"last_event_id": stream.last_event_id, "after": 0}
            return found

        found, *_ = await asyncio.gather(collect(), *(visit(server.url, 20) for _ in range(3)))
        assert [each["data"]["position"] for each in found] == positions(server.data, "revoke")
        async with Subscriber(server.url, secret) as shop:
            assert await shop.every() == found, "pages and stream say the same"


@scenario()
async def test_a_new_event_stream_begins_with_what_is_new(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "session-ends")
        await visit(server.url, 2)
        async with Subscriber(server.url, secret) as shop, shop.follow() as stream:
            waiting = asyncio.create_task(stream.event())
            await eventually(lambda: stream.comments)
            ended = await visit(server.url, 1)
            assert (await waiting)["data"]["session_id"] == ended[0]


@scenario()
async def test_a_stream_that_broke_before_its_first_event_misses_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "session-ends")
        async with Subscriber(server.url, secret) as shop:
            await visit(server.url, 1)
            async with shop.follow() as stream:
                waiting = asyncio.create_task(stream.next())
                await eventually(lambda: stream.last_event_id is not None)
                assert stream.comments == ["following"], "the first lines, and no heartbeat"
                assert not waiting.done(), "no event"
                waiting.cancel()
            missed = await visit(server.url, 1)
            async with shop.follow(last_event_id=stream.last_event_id) as stream:
                assert (await stream.event())["data"]["session_id"] == missed[0]


@pytest.mark.slow
@scenario()
async def test_a_stream_moves_on_past_records_that_are_not_for_it(tmp_path: Path) -> None:
    """So that a reconnect does not read them again."""
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "executions:notes")
        async with Subscriber(server.url, secret) as shop, shop.follow() as stream:
            waiting = asyncio.create_task(stream.next())
            await eventually(lambda: stream.comments)
            await visit(server.url, 3)
            newest = records(server.data)[-1]["position"]
            await eventually(lambda: (stream.last_event_id or 0) >= newest, within_s=60)
            assert not waiting.done(), "no event"
            waiting.cancel()


@pytest.mark.asvs("8.2.1", "8.3.1")
@scenario()
async def test_a_subscriber_sees_what_its_scopes_cover_and_nothing_else(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        ends, notes, everything = (
            subscriber_token(server.data, scope, name=name)
            for scope, name in (("session-ends", "ends"), ("executions:notes", "notes"), ("all", "everything"))
        )
        ended = await visit(server.url, 1)
        async with (
            Subscriber(server.url, ends) as one,
            Subscriber(server.url, notes) as two,
            Subscriber(server.url, everything) as three,
        ):
            assert [each["data"]["session_id"] for each in await one.every()] == ended
            assert await two.every() == []
            # The three subscribers' secrets are recorded within a second.
            until(lambda: len(records(server.data)) == 2 + 3 + 3)
            logged = records(server.data)
            assert [each["type"] for each in await three.every()] == [f"{e['kind']}.{e['event']}" for e in logged]
            for path in ("/api/admin/transitions", "/api/admin/accounts"):
                problem(await three.http.get(path), 401, "admin-credential-invalid")
            problem(await three.http.get("/api/session"), 401, "credential-invalid")
        async with Subscriber(server.url, recorded_admin_token(server.data)) as admin:
            problem(await admin.http.get("/api/events"), 401, "subscriber-credential-invalid")
            problem(await admin.http.get("/api/events/stream"), 401, "subscriber-credential-invalid")


@scenario()
async def test_the_log_records_a_subscriber_and_its_scopes(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        subscriber_token(server.data, "session-ends", "executions:notes", "session-ends")
        until(lambda: any(each["data"].get("purpose") == "subscriber" for each in records(server.data)))
        data = records(server.data)[-1]["data"]
        assert (data["name"], data["scopes"]) == ("shop", ["executions:notes", "session-ends"])


@scenario()
async def test_an_event_stream_ends_when_its_secret_is_removed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "all")
        other = subscriber_token(server.data, "all", name="other")
        async with (
            Subscriber(server.url, secret) as shop,
            Subscriber(server.url, other) as beside,
            shop.follow() as stream,
            beside.follow() as kept,
        ):
            until(lambda: len(records(server.data)) == 2 + 2)
            assert interlock("subscribers", "remove", "shop", "--data", server.data).returncode == 0
            assert await stream.end() == "credential-removed"
            while (await kept.event())["type"] != "secret.remove":
                pass
            problem(await shop.http.get("/api/events"), 401, "subscriber-credential-invalid")


@scenario()
async def test_an_event_stream_resumes_after_a_restart(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = subscriber_token(server.data, "session-ends")
        async with Subscriber(server.url, secret) as shop:
            first = await visit(server.url, 1)
            async with shop.follow(after=0) as stream:
                assert (await stream.event())["data"]["session_id"] == first[0]
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert await stream.end() == "draining"
                assert await stopping == 0
            server.start()
            second = await visit(server.url, 1)
            async with shop.follow(last_event_id=stream.last_event_id) as stream:
                assert (await stream.event())["data"]["session_id"] == second[0]


@pytest.mark.parametrize("command", ["subscribers", "webhooks"])
def test_the_help_says_that_a_scopes_realm_is_not_checked(command: str) -> None:
    told = interlock(command, "create", "--help").stdout
    assert "REALM is not compared with the realms of the server" in " ".join(told.replace("│", " ").split())


@pytest.mark.parametrize("scope", ["sessions", "executions:", "executions:Notes", "all,session-ends", ""])
def test_an_unknown_scope_is_refused(tmp_path: Path, scope: str) -> None:
    outcome = interlock("subscribers", "create", "shop", "--scope", scope, "--data", tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "interlock: a scope is session-ends, executions:REALM, or all\n"
    assert list(tmp_path.iterdir()) == []


@scenario()
async def test_a_realms_scope_covers_each_step_of_its_executions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "tallies.db")
    monkeypatch.setenv("TALLIES", str(tmp_path / "tallies.db"))
    with running_server(tmp_path / "data", realm=REALM) as server:
        own = subscriber_token(server.data, "executions:tallies")
        other = subscriber_token(server.data, "executions:notes", name="other")
        async with (
            Subscriber(server.url, own) as shop,
            Subscriber(server.url, other) as beside,
            await logged_in(server.url) as user,
        ):
            body = {"id": "first", "name": "tallies.once", "parameters": {}}
            accepted = (await user.request("POST", "/api/intents", json=body)).raise_for_status().json()
            async with shop.follow(after=0) as stream:
                live = [await stream.event() for _ in range(3)]
            assert [each["type"] for each in live] == ["execution.accept", "execution.start", "execution.succeed"]
            about = {"realm": "tallies", "intent": "tallies.once"}
            about |= {"session_id": user.session_id, "instance_id": accepted["execution_id"]}
            for each in live:
                assert about.items() <= each["data"].items()
            assert await shop.every() == live
            assert await beside.every() == []
        server.stop()
        server.start()
        async with Subscriber(server.url, own) as shop:
            assert await shop.every() == live, "the same from the disk"


@scenario()
async def test_streams_of_one_secret_do_not_keep_out_those_of_another(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        shop, other = (subscriber_token(server.data, "all", name=name) for name in ("shop", "other"))
        async with (
            Subscriber(server.url, shop) as many,
            Subscriber(server.url, other) as one,
            AsyncExitStack() as stack,
        ):
            for _ in range(16):
                await stack.enter_async_context(many.follow())
            refused = await many.http.get("/api/events/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            async with one.follow():
                pass
