"""Metrics: on a separate port, correct, and of bounded size."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from interlock.machine.session.commands import Authenticate
from interlock.server.guard.passwords.hash_queue import Requester
from interlock.server.settings import Settings
from interlock.server.telemetry.metrics import PrometheusMetrics
from interlock.spec.export import LIFECYCLES
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, hello, logged_in
from tests.support.log import interlock, projection, records
from tests.support.metrics import Scrape, log_rows, metrics_url, scrape
from tests.support.running import eventually, run
from tests.support.server import ServerProcess, running_server
from tests.support.wire import Wire, log_in, services_in


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data", metrics_port=0, log_json=True, connections_per_session=2) as process:
        yield process


def live_states(data: Path) -> dict[str, int]:
    """Return how many live sessions are in each state, by the database."""
    return dict(Counter(row["state"] for row in projection(data).values() if row["reason"] is None))


async def connections(server: ServerProcess, number: int) -> None:
    """Wait until this many WebSockets are open."""
    await eventually(lambda: scrape(server).value("interlock_connections") == number)


async def everything(server: ServerProcess) -> list[ClientConnection]:
    """Make sessions in every state, ends of several kinds, and refusals. Leave two sockets open."""
    async with Client(server.url) as anonymous:
        await anonymous.begin()
    first, second = await logged_in(server.url), await logged_in(server.url)
    assert (await first.refresh()).status_code == 200
    kept = [await first.connect(), await first.connect()]
    third = await first.connect()
    assert await closed(third) == (4429, "too many connections")
    revoked = await second.connect()
    await hello(revoked)
    assert (await second.request("POST", "/api/auth/logout")).status_code == 204
    assert (await closed(revoked))[0] == 4403
    gone = await logged_in(server.url)
    left = await gone.connect()
    await hello(left)
    await left.close(1000)
    await connections(server, 2)
    # The disconnect is recorded after the socket is unregistered.
    await eventually(
        lambda: scrape(server).value("interlock_transitions_total", kind="session", event="disconnect") == 1
    )
    for client in (first, second, gone):
        await client.http.aclose()
    return kept


@pytest.mark.asvs("13.4.5")
def test_metrics_are_off_by_default_and_never_on_the_clients_port(tmp_path: Path, measured: ServerProcess) -> None:
    assert Settings().metrics_port is None
    assert Settings().metrics_host == "127.0.0.1"
    with running_server(tmp_path / "plain", log_json=True) as plain:
        assert listening(plain.pid) == {int(plain.url.rpartition(":")[2])}
    assert "metrics.listening" not in {row["event"] for row in log_rows(plain)}
    # Nor on the port of clients, if metrics are on.
    assert httpx.get(f"{measured.url}/metrics").status_code == 404
    assert len(listening(measured.pid)) == 2


def listening(pid: int) -> set[int]:
    """Return the TCP ports that a process listens on, from /proc."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_transition_metrics_match_the_log(measured: ServerProcess) -> None:
    async def main() -> None:
        kept = await everything(measured)
        now = scrape(measured)
        for kind in (lifecycle.name for lifecycle in LIFECYCLES):
            by_event = Counter(each["event"] for each in records(measured.data) if each["kind"] == kind)
            assert now.by("interlock_transitions_total", "event", kind) == by_event
        assert now.by("interlock_instances", "state", "account")["active"] == 3
        assert now.by("interlock_instances", "state", "session") == live_states(measured.data)
        assert now.by("interlock_instances", "state", "session") == {"created": 1, "authenticated": 1, "connected": 1}
        assert now.by("interlock_instances_ended_total", "reason", "session") == {"logout": 1}
        assert (
            now.value("interlock_refusals_total", kind="session", event="connect", guard="below_connection_limit") == 1
        )
        assert now.value("interlock_connections") == 2
        assert now.value("interlock_socket_closes_total", code="4429", by="server") == 1
        assert now.value("interlock_socket_closes_total", code="4403", by="server") == 1
        assert now.value("interlock_socket_closes_total", code="1000", by="client") == 1
        assert now.value("interlock_revoke_to_close_seconds_count") == 1
        assert now.value("interlock_commit_seconds_sum") <= now.value("interlock_append_seconds_sum")
        assert now.value("interlock_log_failed") == 0
        await eventually(lambda: each_write_is_in_a_batch(scrape(measured)))
        for socket_ in kept:
            await socket_.close()

    run(main())


def each_write_is_in_a_batch(now: Scrape) -> bool:
    """Check that each write was in a batch and none waits. The server's own write each second may fall between."""
    return (
        now.value("interlock_append_batch_size_sum") == now.value("interlock_append_seconds_count")
        and now.value("interlock_commit_seconds_count") == now.value("interlock_append_batch_size_count")
        and now.value("interlock_write_queue_depth") == 0
    )


@pytest.mark.asvs("16.3.2")
def test_requests_are_counted_by_route_and_status(measured: ServerProcess) -> None:
    async def main() -> None:
        client = await logged_in(measured.url)
        assert (await client.request("DELETE", "/api/sessions/" + "a" * 36)).status_code == 404
        assert (await client.http.get("/api/session")).status_code == 401
        assert (await client.http.get("/api/connect")).status_code == 426
        assert (await client.http.get("/no/such/thing")).status_code == 404
        async with client.connect() as open_:
            await hello(open_)
        now = scrape(measured)

        def requests(method: str, route: str, status: str) -> float:
            return now.value("interlock_http_requests_total", method=method, route=route, status=status)

        assert requests("POST", "/api/auth/register", "201") == requests("POST", "/api/auth/login", "200") == 1
        assert requests("DELETE", "/api/sessions/{session_id}", "404") == 1
        assert requests("GET", "/api/session", "401") == 1
        assert requests("GET", "/api/connect", "426") == requests("GET", "/api/connect", "101") == 1
        assert requests("GET", "none", "404") == 1
        assert now.value("interlock_http_request_seconds_count", method="GET", route="/api/connect") == 2
        assert now.by("interlock_problems_total", "type") == {
            "credential-missing": 1,
            "not-found": 2,
            "upgrade-required": 1,
        }
        events = now.by("interlock_log_events_total", "event")
        assert events["login.succeeded"] == events["account.registered"] == 1
        await client.http.aclose()

    run(main())


def test_no_metric_label_holds_a_clients_value(measured: ServerProcess) -> None:
    async def main() -> None:
        kept = await everything(measured)
        before = scrape(measured)
        await asyncio.gather(*(strange(measured, number) for number in range(40)))
        after = scrape(measured)
        # One strange request or forty: as many time series.
        new = set(after.samples) - set(before.samples)
        await asyncio.gather(*(strange(measured, number) for number in range(40, 80)))
        again = scrape(measured)
        assert set(again.samples) == set(after.samples)
        assert len(new) < 60, sorted(map(str, new))
        told = {record["instance_id"] for record in records(measured.data)}
        told |= {record["actor"] for record in records(measured.data)} - {"server", "anonymous"}
        assert not [name for name in told if name in again.text]
        assert "127.0.0.1" not in again.text
        assert "example.org" not in again.text
        for socket_ in kept:
            await socket_.close()

    run(main())


async def strange(server: ServerProcess, number: int) -> None:
    """A path, a query, a header, an account and a close code that are otherwise unused."""
    client = await logged_in(server.url)
    open_ = await client.connect(user_agent_header=f"agent-{number}")
    await hello(open_)
    await open_.close(3000 + number)
    await client.http.get(f"/path-{number}", params={f"q{number}": "x"}, headers={f"x-{number}": "y"})
    await client.request("DELETE", f"/api/sessions/none-{number}")
    await client.refresh("a" * 36 + f".{number}." + "m" * 43)
    await client.http.aclose()


def test_the_metric_of_sessions_by_state_survives_a_kill(measured: ServerProcess) -> None:
    async def main() -> None:
        kept = await everything(measured)
        before = live_states(measured.data)
        assert before["connected"] == 1
        measured.kill()
        measured.start()
        now = scrape(measured)
        assert (
            now.by("interlock_instances", "state", "session")
            == live_states(measured.data)
            == {"created": 1, "authenticated": 2}
        )
        # The start's repairs count in this run.
        assert now.by("interlock_transitions_total", "event", "session") == {"disconnect": 2}
        assert now.value("interlock_connections") == 0
        for socket_ in kept:
            await closed(socket_)

    run(main())


def test_expiries_are_counted_with_reason_and_lateness(tmp_path: Path) -> None:
    async def main(server: ServerProcess) -> None:
        async with Client(server.url) as client:
            await client.begin()
        await eventually(
            lambda: scrape(server).by("interlock_instances_ended_total", "reason", "session") == {"idle": 1}
        )
        now = scrape(server)
        assert now.by("interlock_instances", "state", "session") == {}
        assert now.value("interlock_expiry_lateness_seconds_count") == 1
        assert now.value("interlock_expiry_lateness_seconds_sum") >= 0

    with running_server(tmp_path / "data", metrics_port=0, log_json=True, idle_timeout_s=0.2) as server:
        run(main(server))


def test_the_metrics_port_answers_only_metrics(measured: ServerProcess) -> None:
    url = metrics_url(measured)
    assert httpx.head(url).headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "server" not in httpx.get(url).headers
    open_metrics = httpx.get(url, headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")
    assert httpx.post(url).status_code == 404
    assert httpx.get(url.removesuffix("metrics")).status_code == 404
    assert httpx.get(url.removesuffix("metrics") + "health/live").status_code == 404
    assert measured.stop(signal.SIGTERM) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_silent_connections_to_the_metrics_port_are_cut(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", metrics_port=0, log_json=True, header_timeout_s=2, keep_alive_s=1) as server,
        ExitStack() as stack,
    ):
        crowd = [stack.enter_context(wire(metrics_url(server))) for _ in range(300)]
        for half in crowd[:100]:
            half.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert scrape(server).value("interlock_log_failed") == 0
        for raw in crowd:
            raw.settimeout(30)
            assert raw.recv(65536).startswith(b"HTTP/1.1 408") == (raw in crowd[:100])


def test_many_scrapes_do_not_block_the_metrics_port(measured: ServerProcess) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(wire(metrics_url(measured))) for _ in range(100)]
        for raw in crowd:
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        assert scrape(measured).value("interlock_log_failed") == 0
        for raw in crowd:
            raw.settimeout(30)
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")


def wire(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)


@pytest.mark.parametrize("wanted", ["text/plain; version=x", "application/openmetrics-text; version=1.x; escaping=x"])
def test_an_unknown_metrics_format_gets_the_default(measured: ServerProcess, wanted: str) -> None:
    assert httpx.get(metrics_url(measured), headers={"accept": wanted}).status_code == 200
    assert "Traceback" not in measured.log_path.read_text()


def test_promtool_finds_no_problem_in_the_metrics(measured: ServerProcess) -> None:
    async def main() -> str:
        kept = await everything(measured)
        text = scrape(measured).text
        for socket_ in kept:
            await socket_.close()
        return text

    text = run(main())
    said = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607  # the system's promtool
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_a_metrics_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = interlock("serve", "--data", tmp_path / "data", "--port", 0, "--metrics-port", port)
    assert outcome.returncode == 2
    assert f"can't listen on 127.0.0.1 port {port}" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "data").exists()


@asynchronous
async def test_metrics_show_a_stopped_log_and_waiting_passwords(tmp_path: Path) -> None:
    async with services_in(tmp_path, metrics_port=0) as services:
        assert isinstance(services.metrics, PrometheusMetrics)
        assert reading(services.metrics).value("interlock_log_failed") == 0
        slow = threading.Event()
        passwords = services.logins._passwords
        proving = [
            asyncio.create_task(passwords._run(Requester("ada@example.org", "192.0.2.1"), slow.wait)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert reading(services.metrics).value("interlock_password_queue_depth") == 3
        slow.set()
        await asyncio.gather(*proving)
        assert reading(services.metrics).value("interlock_password_queue_depth") == 0
        services.sessions._log._writer.failure = "it broke"  # type: ignore[attr-defined]  # nothing public breaks it
        assert reading(services.metrics).value("interlock_log_failed") == 1


@asynchronous
async def test_an_undeclared_transition_and_an_unknown_method_have_labels(tmp_path: Path) -> None:
    async with services_in(tmp_path, metrics_port=0) as services:
        session, token = await log_in(services)
        again = services.sessions.begin("ada", Authenticate("ada", "password"), Authenticate("ada", "password"))
        with pytest.raises(Exception, match="authenticate refused"):
            await again
        services.metrics.answered("BREW", "/coffee", 418, 0.1)
        now = reading(services.metrics)
        assert now.value("interlock_refusals_total", kind="session", event="authenticate", guard="undeclared") == 1
        assert now.value("interlock_http_requests_total", method="other", route="/coffee", status="418") == 1
        assert {dict(labels)["event"] for name, labels in now.samples if name == "interlock_transitions_total"} == {
            row.event for lifecycle in LIFECYCLES for row in lifecycle.transitions
        }
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: wire.said)
        wire.leave(4999)
        await running
        assert reading(services.metrics).value("interlock_socket_closes_total", code="other", by="client") == 1
        assert session.session_id not in reading(services.metrics).text


def reading(metrics: object) -> Scrape:
    from prometheus_client import generate_latest

    assert isinstance(metrics, PrometheusMetrics)
    return Scrape(generate_latest(metrics.registry).decode())


def test_json_logs_are_one_object_per_line(measured: ServerProcess) -> None:
    for line in measured.log_path.read_text().splitlines():
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("access_log", [False, True])
def test_the_forward_auth_fast_path_is_counted_and_logged_like_a_request(tmp_path: Path, *, access_log: bool) -> None:
    async def ask(server: ServerProcess) -> list[httpx.Response]:
        async with await logged_in(server.url) as client:
            return [await client.request("GET", "/api/forward-auth") for _ in range(5)]

    with running_server(tmp_path / "data", metrics_port=0, log_json=True, access_log=access_log) as server:
        answers = run(ask(server))
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert len(set(ids)) == 5
        counted = {"method": "GET", "route": "/api/forward-auth"}
        assert scrape(server).value("interlock_http_requests_total", status="200", **counted) == 5
        assert scrape(server).value("interlock_http_request_seconds_count", **counted) == 5
    logged = [row["request_id"] for row in log_rows(server) if row.get("route") == "/api/forward-auth"]
    assert logged == (ids if access_log else [])
