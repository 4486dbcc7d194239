"""Repeated refusals and faults: the first has its own line, the others become a number, and none is lost."""

from __future__ import annotations

import json
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog

from interlock.server.telemetry import repeats
from interlock.server.telemetry.logs import event_counts
from tests.support.metrics import log_rows, scrape
from tests.support.own_log import logging_to_file
from tests.support.raw_http import ask_all
from tests.support.server import running_server

PROXIED = {"trusted_proxies": "127.0.0.1", "log_json": True}


def total(rows: list[dict[str, Any]]) -> int:
    """Return how many events ``rows`` represent."""
    return sum(row.get("repeated", 1) for row in rows)


def of_problem(rows: list[dict[str, Any]], problem: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["event"] == "request.refused" and row["problem"] == problem]


@pytest.mark.asvs("16.3.2")
def test_5000_refusals_of_one_client_become_a_few_lines_that_add_up(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, metrics_port=0) as server:
        assert set(ask_all(server.url, ["/nothing"] * 5_000)) == {404}
        assert set(ask_all(server.url, ["/api/session"] * 10)) == {401}
        counted = scrape(server).by("interlock_log_events_total", "event")["request.refused"]
    rows = log_rows(server)
    refused = of_problem(rows, "not-found")
    assert total(refused) == 5_000
    # Two in ten seconds. The machine may be slow, but not that slow.
    assert len(refused) < 100
    first = refused[0]
    assert (first["client"], first["method"], first["route"], first["status"]) == ("127.0.0.1", "GET", "none", 404)
    assert "repeated" not in first
    assert first["request_id"].startswith("req_")
    told = refused[-1]
    assert (told["client"], told["status"], told["level"], told["logger"]) == (
        "127.0.0.1",
        404,
        "info",
        "interlock.http",
    )
    # The other problem has its own first line and number.
    assert total(of_problem(rows, "credential-missing")) == 10
    assert of_problem(rows, "credential-missing")[0]["route"] == "/api/session"
    assert counted == 5_010


@pytest.mark.asvs("16.3.2", "16.3.3")
def test_a_distributed_flood_becomes_few_lines_and_hides_no_other_refusal(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", **PROXIED) as server:
        addresses = [f"X-Forwarded-For: 198.51.{n // 256}.{n % 256}\r\n" for n in range(5_000)]
        assert set(ask_all(server.url, ["/nothing"] * 5_000, addresses)) == {404}
        assert httpx.get(f"{server.url}/api/session", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    rows = log_rows(server)
    refused = of_problem(rows, "not-found")
    assert total(refused) == 5_000
    assert len(refused) < 1_000
    clients = Counter(row.get("client") for row in refused)
    assert clients["198.51.0.0"] >= 1
    assert "repeated" not in next(row for row in refused if row["client"] == "198.51.0.0")
    # Those beyond the limit of separate lines.
    assert all(row["repeated"] > 0 for row in refused if "client" not in row)
    assert clients[None] >= 1
    (other,) = of_problem(rows, "credential-missing")
    assert (other["client"], other["route"]) == ("203.0.113.9", "/api/session")


@pytest.mark.asvs("16.3.3")
def test_each_client_has_its_own_lines(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True) as server:
        for n in range(2, 12):
            assert ask_all(server.url, ["/nothing"] * 3, source=f"127.0.0.{n}") == [404] * 3
            garbage(server.url, f"127.0.0.{n}", 3)
    rows = log_rows(server)
    for event in ("request.refused", "traffic.unreadable"):
        by_client: Counter[str] = Counter()
        for row in rows:
            if row["event"] == event:
                by_client[row["client"]] += row.get("repeated", 1)
        assert by_client == {f"127.0.0.{n}": 3 for n in range(2, 12)}


def garbage(url: str, source: str, times: int) -> None:
    """Send invalid HTTP, on a new connection each time."""
    address = urlsplit(url)
    for _ in range(times):
        with socket.create_connection((address.hostname, address.port), 60, (source, 0)) as raw:
            raw.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
            while raw.recv(4096):
                pass


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return the logged lines."""
    with logging_to_file(tmp_path / "log") as lines:
        yield lambda: [json.loads(line) for line in lines()]


Log = Callable[[], list[dict[str, Any]]]


def logger() -> Any:
    return structlog.get_logger("interlock.test")


def refuse(client: str, problem: str = "not-found", times: int = 1) -> None:
    for n in range(times):
        logger().info("request.refused", problem=problem, status=404, client=client, route=f"/{n}")


def test_after_a_report_the_next_repeat_has_its_own_line_again(log: Log) -> None:
    refuse("192.0.2.1", times=3)
    assert [row.get("repeated") for row in log()] == [None, 2]
    refuse("192.0.2.1")
    assert [row.get("repeated") for row in log()] == [None, 2, None]
    assert log()[-1]["route"] == "/0"


def test_addresses_of_one_ipv6_network_are_aggregated(log: Log) -> None:
    for n in range(10):
        refuse(f"2001:db8::{n}")
    refuse("2001:db8:0:1::1")
    assert [(row["client"], row.get("repeated")) for row in log()] == [
        ("2001:db8::0", None),
        ("2001:db8:0:1::1", None),
        ("2001:db8::/64", 9),
    ]


def test_lines_and_memory_of_repeats_are_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("KINDS", 16), ("SOURCES", 32), ("SOURCES_OF_A_KIND", 4)):
        monkeypatch.setattr(repeats, name, limit)
    before = event_counts().get("request.refused", 0)
    kinds, clients = 40, 20
    for client in range(clients):
        for kind in range(kinds):
            refuse(f"192.0.2.{client}", f"problem-{kind}", 1 if client else 2)
    rows = log()
    assert total(rows) == kinds * (clients + 1)
    assert event_counts()["request.refused"] - before == kinds * (clients + 1)
    assert len([row for row in rows if "repeated" not in row]) == repeats.SOURCES
    assert len(rows) <= 2 * repeats.SOURCES + repeats.KINDS + 1


@pytest.mark.asvs("16.3.3")
def test_one_kind_of_repeat_leaves_room_for_others(log: Log) -> None:
    for client in range(10 * repeats.SOURCES_OF_A_KIND):
        refuse(f"192.0.{client // 256}.{client % 256}", "one")
    refuse("203.0.113.1", "another")
    rows = log()
    assert [row.get("client") for row in rows if row["problem"] == "another"] == ["203.0.113.1"]
    assert len([row for row in rows if row["problem"] == "one" and "repeated" not in row]) == repeats.SOURCES_OF_A_KIND


def test_security_events_without_repeats_always_have_their_own_line(log: Log) -> None:
    for _ in range(5):
        logger().warning("login.failed", method="password", account="a", address="192.0.2.1", known=False)
        logger().warning("token.reused", session_id="s", subject="acc_1")
        logger().warning("password.wrong", subject="acc_1")
    assert Counter(row["event"] for row in log()) == {"login.failed": 5, "token.reused": 5, "password.wrong": 5}


@pytest.mark.asvs("16.3.4")
def test_faults_are_aggregated_by_their_place_in_the_code(log: Log) -> None:
    def fail(kind: type[Exception]) -> None:
        raise kind("correct horse")

    for n in range(6):
        try:
            fail(ValueError if n else KeyError)
        except (KeyError, ValueError):
            logger().exception("socket.failed", client=f"192.0.2.{n}")
    rows = log()
    assert [row["traceback"].partition(" > ")[0] for row in rows if "traceback" in row] == ["KeyError", "ValueError"]
    (number,) = [row for row in rows if "repeated" in row]
    assert number["repeated"] == 4
    assert number["place"].startswith("ValueError > test_repeats.py:")
    assert "horse" not in str(rows)


def test_library_log_lines_are_aggregated_by_their_text(log: Log) -> None:
    for n in range(50):
        logging.getLogger("library").warning("socket %s is gone", n)
        logging.getLogger("library").error("another")
    rows = log()
    assert [(row["event"], row["level"], row.get("repeated")) for row in rows] == [
        ("socket 0 is gone", "warning", None),
        ("another", "error", None),
        ("socket %s is gone", "warning", 49),
        ("another", "error", 49),
    ]
    for n in range(1_000):
        logging.getLogger("library").warning(f"socket {n} is gone")  # noqa: G004  # as some libraries do
    rows = log()[4:]
    assert total(rows) == 1_000
    assert len(rows) == repeats.SOURCES_OF_A_KIND + 1
    assert rows[-1]["event"] == "other lines of this logger"


def test_library_lines_of_a_level_of_its_own_are_aggregated_too(log: Log) -> None:
    for _ in range(3):
        logging.getLogger("library").log(35, "a notice")
    assert [(row["event"], row.get("repeated")) for row in log()] == [("a notice", None), ("a notice", 2)]


def test_repeats_below_the_log_level_are_not_reported(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log", level="warning") as lines:
        refuse("192.0.2.1", times=10)
        logger().warning("admin.refused", client="192.0.2.1")
        logger().warning("admin.refused", client="192.0.2.1")
        rows = [json.loads(line) for line in lines()]
    assert [(row["event"], row.get("repeated")) for row in rows] == [("admin.refused", None), ("admin.refused", 1)]
