"""Failing background work shows in the log and in the readiness probe, and is restarted."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from interlock.machine.session.conversation import Conversation
from interlock.server.experience.transport import heartbeat
from interlock.server.experience.transport.heartbeat import Heartbeat
from interlock.server.guard.keys.heads import read_head
from interlock.server.settings import HEAD_NAME
from interlock.server.system import supervision
from interlock.server.system.supervision import Supervisor, progressed
from interlock.server.system.workers import Workers
from tests.support import failing_background
from tests.support.asynchronous import asynchronous
from tests.support.client import closed, hello, logged_in
from tests.support.metrics import log_rows, scrape
from tests.support.running import eventually, run, until
from tests.support.server import ServerProcess
from tests.support.wire import Wire, events, log_in, services_in


@pytest.fixture(params=["expiry", "keys", "secrets", "head", "files"])
def work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAILING_WORK", request.param)
    return str(request.param)


class FailingServer(ServerProcess):
    prepare = staticmethod(failing_background.put_in)
    probe = "/health/live"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = FailingServer(tmp_path / "data", {"log_json": True, "metrics_port": 0, "idle_timeout_s": 1})
    try:
        yield server
    finally:
        server.stop()


def ready(server: ServerProcess) -> tuple[int, str]:
    answer = httpx.get(f"{server.url}/health/ready")
    return answer.status_code, answer.json()["status"]


def test_repeatedly_failing_background_work_is_noticed(
    server: ServerProcess, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILURES", "1000000")
    server.start()
    httpx.post(f"{server.url}/api/session")
    until(lambda: ready(server)[0] != 200)
    assert ready(server) == (503, f"background work fails: {work}; the server's log says why")
    assert httpx.get(f"{server.url}/health/live").status_code == 200, "a restart may mend nothing"
    rows = until(lambda: [row for row in log_rows(server) if row["event"] == "background.failed"])
    assert (rows[0]["work"], rows[0]["level"]) == (work, "critical")
    assert "ValueError" in rows[0]["traceback"]
    assert "correct horse" not in server.log_path.read_text()
    assert scrape(server).value("interlock_background_failing") == 1
    assert server.stop(signal.SIGTERM) == 0, "it stops all the same"


def test_background_work_that_failed_once_continues(
    server: ServerProcess, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILURES", "1")
    server.start()
    until(lambda: any(row["event"] == "background.failed" and row["work"] == work for row in log_rows(server)))
    httpx.post(f"{server.url}/api/session").raise_for_status()
    match work:
        case "expiry":
            until(lambda: scrape(server).value("interlock_transitions_total", kind="session", event="expire"))
        case "head":
            # There is one before the first record.
            until(lambda: read_head((server.data / HEAD_NAME).read_text().strip()).position)
        case "keys":
            for key in (server.data / "keys").iterdir():
                key.unlink()
            until(lambda: "keys.unusable" in server.log_path.read_text())
        case _:
            (server.data / "interlock.db").rename(server.data / "elsewhere.db")
            until(lambda: "surface.failed" in server.log_path.read_text())


def test_ready_again_half_a_minute_after_the_last_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(supervision, "monotonic", lambda: now)
    monkeypatch.setattr(supervision, "_PAUSE_S", 0)
    supervisor = Supervisor()
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ZeroDivisionError

    async def main() -> None:
        nonlocal now
        with capture_logs() as logs:
            await supervisor.start("it", work)
        assert calls == 3
        assert [(log["event"], log["work"]) for log in logs] == [("background.failed", "it")] * 2
        assert supervisor.failing == ["it"]
        now += 29
        assert supervisor.failing == ["it"]
        now += 1
        assert supervisor.failing == []

    run(main())


@pytest.mark.parametrize("way", ["returns", "cancelled"])
@asynchronous
async def test_background_work_that_returns_counts_as_failed_and_restarts(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "_PAUSE_S", 0.01)
    supervisor = Supervisor()
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            await asyncio.Event().wait()
        if way == "cancelled":
            # As from a library whose own task was cancelled.
            raise asyncio.CancelledError

    with capture_logs() as logs:
        async with supervisor.running("it", work):
            await eventually(lambda: calls == 3)
            assert supervisor.failing == ["it"]
    assert [(log["event"], log["work"]) for log in logs] == [("background.failed", "it")] * 2


@asynchronous
async def test_stuck_background_work_and_its_recovery_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_PAUSE_S", 0.01)
    monkeypatch.setattr(supervision, "_FAILING_S", 1)
    supervisor = Supervisor()
    continuation = asyncio.Event()

    async def work() -> None:
        while True:
            progressed()
            await continuation.wait()
            continuation.clear()

    with capture_logs() as logs:
        async with supervisor.running("it", work):
            for _ in range(200):
                continuation.set()
                await asyncio.sleep(0.01)
                assert supervisor.failing == [], "it goes on"
            await eventually(lambda: supervisor.failing == ["it"])
            continuation.set()
            await eventually(lambda: supervisor.failing == [])
    assert [(log["event"], log["work"], log["silent_s"]) for log in logs] == [("background.stuck", "it", 1)]


@asynchronous
async def test_a_stopped_and_continued_process_has_no_stuck_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_PAUSE_S", 0.01)
    monkeypatch.setattr(supervision, "_FAILING_S", 1)
    supervisor = Supervisor()

    async def work() -> None:
        progressed()
        await asyncio.Event().wait()

    with capture_logs() as logs:
        async with supervisor.running("it", work):
            await asyncio.sleep(0.01)
            time.sleep(1.5)  # noqa: ASYNC251  # nothing runs meanwhile, as after SIGSTOP
            for _ in range(10):
                await asyncio.sleep(0)
                assert supervisor.failing == []
    assert logs == []


@asynchronous
async def test_a_hanging_disk_is_reported_and_does_not_prevent_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr("interlock.server.system.host.os.statvfs", lambda _path: hangs.wait(60))
    monkeypatch.setattr("interlock.server.system.host._BEGIN_S", 0.1)
    monkeypatch.setattr(supervision, "_PAUSE_S", 0.1)
    monkeypatch.setattr(supervision, "_FAILING_S", 3.0)
    try:
        async with services_in(tmp_path) as services:
            await eventually(lambda: services.supervisor.failing == ["host"])
    finally:
        hangs.set()


def test_a_socket_closes_even_if_another_listener_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILING_WORK", "metrics")
    monkeypatch.setenv("FAILURES", "0")
    server = FailingServer(tmp_path / "data", {"log_json": True, "metrics_port": 0})
    server.start()

    async def main() -> None:
        async with await logged_in(server.url) as client, client.connect() as socket, client.connect() as other:
            await hello(socket)
            await hello(other)
            await client.request("POST", "/api/auth/logout")
            assert (await closed(socket))[0] == (await closed(other))[0] == 4403

    try:
        run(main())
        rows = until(lambda: [row for row in log_rows(server) if row["event"] == "listener.failed"])
        assert rows[0]["listener"] == "PrometheusMetrics.observe"
    finally:
        server.stop()


@asynchronous
async def test_a_socket_whose_timer_fails_does_not_outlive_its_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Conversation, "tick", fail)
    async with services_in(tmp_path, access_token_s=2) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await running
        assert wire.said[-1] == "aborted"
        assert (await events(services, session))[-1] == "disconnect"


class Job:
    def __init__(self, name: str) -> None:
        self.name = name
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


@asynchronous
async def test_a_worker_thread_survives_a_failing_job() -> None:
    def fail_to_start() -> None:
        raise PermissionError

    def serve(jobs: list[Job]) -> None:
        for job in jobs:
            if job.name == "bad":
                raise ZeroDivisionError
            job.future.get_loop().call_soon_threadsafe(job.future.set_result, threading.current_thread().name)

    with capture_logs() as logs:
        workers: Workers[Job] = Workers("interlock-test", serve, max_waiting=10, on_start=fail_to_start)
        workers.start()
        jobs = [Job(name) for name in ("good", "bad", "good")]
        for job in jobs:
            workers.give(job)
        outcomes = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        workers.stop()
        workers.join()
    assert isinstance(outcomes[1], RuntimeError)
    assert isinstance(outcomes[1].__cause__, ZeroDivisionError)
    assert [str(outcome) for outcome in outcomes] == ["interlock-test", "interlock-test failed", "interlock-test"]
    assert [log["work"] for log in logs if log["event"] == "background.failed"] == ["interlock-test"] * 2


@asynchronous
async def test_each_caller_of_a_failed_job_gets_its_own_exception() -> None:
    """Raising an exception changes it: it collects the traceback of each caller."""

    def serve(_jobs: list[Job]) -> None:
        raise ZeroDivisionError

    workers: Workers[Job] = Workers("interlock-test", serve, max_waiting=10, at_once=10)
    jobs = [Job("bad") for _ in range(3)]
    for job in jobs:
        workers.give(job)
    workers.start()
    outcomes = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
    assert len(set(map(id, outcomes))) == len(jobs)
    assert workers.waiting == 0, "none is counted any more"
    workers.stop()
    workers.join()


class Member:
    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.told: list[str] = []

    def ping(self) -> None:
        self.told.append("ping")
        if self.fails:
            raise ZeroDivisionError

    def lost(self) -> None:
        self.told.append("lost")

    def abort(self) -> None:
        self.told.append("aborted")


@asynchronous
async def test_a_connection_whose_ping_fails_is_dropped_and_others_are_pinged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "_TICKS", 1)
    beat = Heartbeat(0.01, 60, lambda _: None)
    members = [Member(fails=True), Member(fails=False)]
    for member in members:
        beat.add(member)
    await eventually(lambda: members[1].told)
    assert [member.told[:2] for member in members] == [["ping", "aborted"], ["ping"]]
    for member in members:
        beat.remove(member)
