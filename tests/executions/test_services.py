"""Executions in a whole server: its settings, its metrics, its log lines, and several processes on one log."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from prometheus_client import generate_latest

from interlock.context import Context
from interlock.machine.errors import IntentReused, RateLimited, TooManyExecutions
from interlock.machine.execution.execution import Execution
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session
from interlock.server.runtime.executions.executions import Acceptance, Executions
from interlock.server.services import Services
from interlock.server.telemetry.metrics import PrometheusMetrics
from interlock.server.telemetry.repeats import SOURCES_OF_A_KIND
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.metrics import Scrape
from tests.support.own_log import logging_to_file
from tests.support.running import eventually, scenario
from tests.support.runtime import LIMITS, bench, notes
from tests.support.server import running_server
from tests.support.some_realm import realm
from tests.support.wire import log_in, services_in

REALM = "tests.support.some_realm:realm"


async def submit(services: Services, session: Session, text: str, intent_id: str = "") -> Acceptance:
    raw = msgspec.json.encode({"text": text})
    return await services.executions.accept(session, authority_of(session), intent_id or text, "some_realm.echo", raw)


async def ended(services: Services, session: Session, text: str, intent_id: str = "") -> Execution:
    accepted = await submit(services, session, text, intent_id)
    return await services.runner.outcome(accepted.execution.execution_id)


@asynchronous
async def test_a_server_counts_what_becomes_of_executions(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm, metrics_port=0) as services:
        session, _ = await log_in(services)
        assert (await ended(services, session, "hello")).state == "succeeded"
        assert (await ended(services, session, "fail")).state == "failed"
        for text in ("hang", "go on"):
            await submit(services, session, text)
        await eventually(lambda: services.runner.running == 2)
        assert isinstance(services.metrics, PrometheusMetrics)

        def now() -> Scrape:
            assert isinstance(services.metrics, PrometheusMetrics)
            return Scrape(generate_latest(services.metrics.registry).decode())

        assert now().value("interlock_executions_running") == 2
        for text in ("hang", "go on"):
            execution_id = (await submit(services, session, text)).execution.execution_id
            await services.runner.cancel(session, authority_of(session), execution_id)
        await eventually(lambda: now().value("interlock_late_outcomes_total") == 1)
        seen = now()
        assert seen.by("interlock_executions_accepted_total", "realm") == {"some_realm": 4}
        assert seen.by("interlock_execution_outcomes_total", "state") == {"succeeded": 1, "failed": 1, "cancelled": 2}
        assert seen.value("interlock_executions_running") == 0
        assert seen.value("interlock_instances", kind="execution", state="running") == 0
        assert seen.value("interlock_instances_ended_total", kind="execution", reason="asked") == 2


@asynchronous
async def test_the_log_tells_of_failing_code_without_its_secrets(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with services_in(tmp_path / "data", realm) as services:
            session, _ = await log_in(services)
            execution = await ended(services, session, "explode")
            data = await services.executions.data(execution.execution_id)
            assert data.error == "the realm's code raised ValueError"
            refused = await ended(services, session, "fail")
            assert (await services.executions.data(refused.execution_id)).error == "it can't be done"
            execution_id = (await submit(services, session, "go on")).execution.execution_id
            await eventually(lambda: services.runner.running)
            await services.runner.cancel(session, authority_of(session), execution_id)
        rows = [json.loads(line) for line in lines()]
    assert "secret" not in json.dumps(rows)
    (error, *_) = [row for row in rows if row["event"] == "execution.error"]
    assert (error["execution_id"], error["intent"]) == (execution.execution_id, "some_realm.echo")
    assert "some_realm.py" in str(error["traceback"])
    (info,) = [row for row in rows if row["event"] == "execution.refused"]
    assert (info["execution_id"], info["level"], "traceback" in info) == (refused.execution_id, "info", False)
    assert [row["execution_id"] for row in rows if row["event"] == "execution.error"] == [execution.execution_id]
    (late,) = [row for row in rows if row["event"] == "execution.late"]
    assert late["execution_id"] == execution_id


@asynchronous
async def test_code_that_blocks_the_event_loop_is_named_and_counted(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with services_in(tmp_path / "data", realm, metrics_port=0) as services:
            session, _ = await log_in(services)
            blocking = [(await ended(services, session, text)).execution_id for text in ("block", "block in a task")]
            assert isinstance(services.metrics, PrometheusMetrics)
            seen = Scrape(generate_latest(services.metrics.registry).decode())
        rows = [row for row in map(json.loads, lines()) if row["event"] == "execution.blocking"]
    assert seen.by("interlock_realm_blocking_seconds_total", "realm")["some_realm"] >= 0.3
    for execution_id in blocking:
        (row, *_) = [row for row in rows if row["execution_id"] == execution_id]
        assert (row["intent"], row["level"]) == ("some_realm.echo", "warning")
        assert row["blocked_ms"] >= 150


@asynchronous
async def test_each_failing_execution_has_its_line_and_others_a_number(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with services_in(tmp_path / "data", realm) as services:
            session, _ = await log_in(services)
            failed = [await ended(services, session, "explode", f"i{n}") for n in range(SOURCES_OF_A_KIND + 2)]
        rows = [row for row in map(json.loads, lines()) if row["event"] == "execution.error"]
    told = [row["execution_id"] for row in rows if "execution_id" in row]
    assert told[:SOURCES_OF_A_KIND] == [each.execution_id for each in failed[:SOURCES_OF_A_KIND]]
    assert sum(row.get("repeated", 1) for row in rows) == len(failed)


@asynchronous
async def test_what_a_realm_logs_itself_is_in_the_servers_log(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with services_in(tmp_path / "data", realm) as services:
            session, _ = await log_in(services)
            execution = await ended(services, session, "log")
        rows = [json.loads(line) for line in lines()]
    (row,) = [row for row in rows if row["logger"] == "some_realm"]
    assert (row["event"], row["level"]) == (f"execution {execution.execution_id} says so", "warning")


@pytest.mark.parametrize("setting", ["executions_per_session", "executions_per_account", "executions_per_realm"])
@asynchronous
async def test_a_server_limits_executions_as_it_is_set(tmp_path: Path, setting: str) -> None:
    async with services_in(tmp_path, realm, **{setting: 1}) as services:
        session, _ = await log_in(services)
        await submit(services, session, "hang")
        with pytest.raises(TooManyExecutions, match=setting.removeprefix("executions_per_")):
            await submit(services, session, "hello")


@asynchronous
async def test_the_rate_of_submissions_by_code_is_limited_as_it_is_set(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm, limit_submit="2/1h") as services:
        count = services.runner._parts.count_submission
        for account in ("ada", "bob"):
            for _ in range(2):
                count(account)
            with pytest.raises(RateLimited):
                count(account)


@asynchronous
async def test_a_restarted_server_goes_on_and_says_what_it_found(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:
        async with services_in(tmp_path / "data", realm) as services:
            session, _ = await log_in(services)
            execution_id = (await submit(services, session, "hang")).execution.execution_id
            await eventually(lambda: services.runner.running)
        async with services_in(tmp_path / "data", realm) as services:
            found = await services.executions.owned(session, execution_id)
            assert (found.state, found.reason) == ("failed", "interrupted")
        ready = [row for row in map(json.loads, lines()) if row["event"] == "server.ready"]
    assert [row["executions_interrupted"] for row in ready] == [0, 1]


def test_a_server_with_a_realm_stops_with_status_0(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM) as server:
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("other", ["hello", "other"])
@asynchronous
async def test_two_processes_accept_one_intent_at_once_as_one_execution(tmp_path: Path, other: str) -> None:
    """Of two texts under one id, the log takes one; the other is refused, whichever process it came to."""

    async def echo(_context: Context, text: str) -> str:
        return text

    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        second = Executions(
            made.feed,
            made.clock,
            made.sessions,
            made.accounts,
            realms=made.executions.realms,
            store=made.surface.executions,
            directory=made.surface.directory,
            limits=LIMITS,
            cache_limit=1,
        )
        for number in range(10):
            asked: list[Any] = [
                executions.accept(session, authority_of(session), f"i{number}", "notes.create", raw)
                for executions, raw in (
                    (made.executions, b'{"text":"hello"}'),
                    (second, msgspec.json.encode({"text": other})),
                )
                for _ in range(4)
            ]
            answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
            counts = Counter("refused" if isinstance(each, IntentReused) else each.repeated for each in answers)
            assert counts == ({False: 1, True: 7} if other == "hello" else {False: 1, True: 3, "refused": 4})
        await eventually(lambda: len(second.live) == len(made.executions.live) == 0)


def accepts(url: str) -> bool:
    """Return whether something listens at ``url``."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), 5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("drain_s", "state"), [(60, "succeeded"), (0.2, "failed")])
@scenario()
async def test_a_stopping_server_waits_for_running_code_as_long_as_it_is_set(
    tmp_path: Path, drain_s: float, state: str
) -> None:
    """What has not ended then is interrupted by the next start. Either way it stops with status 0."""
    with running_server(tmp_path / "data", realm=REALM, drain_s=drain_s) as server:
        async with await logged_in(server.url) as client:
            intent = {"id": "i1", "name": "some_realm.echo", "parameters": {"text": f"until {tmp_path / 'go'}"}}
            answer = (await client.request("POST", "/api/intents", json=intent)).json()

            async def read() -> dict[str, Any]:
                path = f"/api/executions/{answer['execution_id']}"
                found: dict[str, Any] = (await client.request("GET", path)).json()
                return found

            async def running() -> bool:
                return bool((await read())["state"] == "running")

            await eventually(running)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            if state == "succeeded":
                await eventually(lambda: not accepts(server.url))
                (tmp_path / "go").touch()
            assert await stopping == 0
            server.start()
            assert (await read())["state"] == state
