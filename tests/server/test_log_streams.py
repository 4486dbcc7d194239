"""Unread or closed standard streams: the server works, and stops when asked."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.raw_http import ask_all
from tests.support.running import until
from tests.support.started import LIMIT_S, read_all, started


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Return a pipe that holds one page, the minimum. Its ends may be closed within."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            with suppress(OSError):
                os.close(end)


def test_a_server_with_an_unread_log_answers_and_reports_drops(tmp_path: Path) -> None:
    asked = 9_000
    with pipe() as (reader, writer), started(tmp_path / "data", stdout=subprocess.DEVNULL, stderr=writer) as server:
        os.close(writer)
        server.ready()
        statuses = Counter(ask_all(server.url, ["/nothing", "/health/live"] * (asked // 2)))
        assert statuses == {404: asked // 2, 200: asked // 2}
        dropped = server.metrics().value("interlock_log_dropped_total")
        assert dropped > 0
        text = bytearray()
        reading = threading.Thread(target=read_all, args=(reader, text), daemon=True)
        reading.start()
        until(lambda: b'"log.dropped"' in text)
        assert server.stop() == 0
        reading.join(LIMIT_S)
        rows = [json.loads(line) for line in text.splitlines()]
    told = [row for row in rows if row["event"] == "log.dropped"]
    assert sum(row["dropped"] for row in told) == dropped
    # Each of those requests has a line in the access log, or is counted as dropped.
    answered = [row for row in rows if row["event"] == "http.answered" and row["route"] == "/health/live"]
    others = [row for row in rows if row["event"] == "http.answered" and row["route"] == "none"]
    assert asked - dropped <= len(answered) + len(others) < asked
    refused = [row for row in rows if row["event"] == "request.refused"]
    assert sum(row.get("repeated", 1) for row in refused) == asked // 2


def test_a_server_with_an_unread_log_stops_when_asked(tmp_path: Path) -> None:
    with pipe() as (_, writer), started(tmp_path / "data", stdout=subprocess.DEVNULL, stderr=writer) as server:
        server.ready()
        assert set(ask_all(server.url, ["/health/live"] * 1000)) == {200}
        assert server.stop() == 0


def test_a_failing_start_ends_even_with_an_unread_log(tmp_path: Path) -> None:
    with pipe() as (reader, writer):
        os.write(writer, b"x" * 4096)
        (tmp_path / "data").write_text("no folder")
        with started(tmp_path / "data", stdout=subprocess.DEVNULL, stderr=writer) as server:
            assert server.process.wait(LIMIT_S) != 0
        os.close(writer)
        assert os.read(reader, 8192) == b"x" * 4096


def test_a_failing_start_writes_its_error_after_its_log_lines(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with started(tmp_path / "data", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        _, said = server.process.communicate(timeout=LIMIT_S)
    assert server.process.returncode == 2
    assert said.splitlines()[-1].startswith(b"interlock: ")


CLOSED = {"closed": "2>&-", "a full disk": "2>/dev/full", "all are closed": "0<&- >&- 2>&-"}


@pytest.mark.parametrize("how", CLOSED.values(), ids=CLOSED)
def test_a_server_without_standard_error_works(tmp_path: Path, how: str) -> None:
    shell = ("sh", "-c", f'exec "$@" {how}', "sh")
    with started(tmp_path / "data", before=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        server.ready()
        assert set(ask_all(server.url, ["/health/live", "/nothing"] * 100)) == {200, 404}
        # The server opens none of its files as a standard stream: output would get into it.
        streams = [str(Path(f"/proc/{server.process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)]
        assert [each for each in streams if not each.startswith(("/dev/", "pipe:", "/proc"))] == []
        assert server.stop() == 0


def test_a_server_whose_logs_reader_is_gone_works_and_counts_drops(tmp_path: Path) -> None:
    with pipe() as (reader, writer), started(tmp_path / "data", stdout=writer, stderr=writer) as server:
        os.close(reader)
        server.ready()
        assert set(ask_all(server.url, ["/health/live"] * 200)) == {200}
        until(lambda: server.metrics().value("interlock_log_dropped_total") >= 200)
        assert server.stop() == 0


def test_a_server_with_an_unread_standard_output_works(tmp_path: Path) -> None:
    with pipe() as (_, writer):
        os.write(writer, b"x" * 4096)
        with started(tmp_path / "data", stdout=writer, stderr=subprocess.DEVNULL) as server:
            server.ready()
            assert server.stop() == 0
