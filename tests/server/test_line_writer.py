"""The log's writer: no caller waits for it, lost lines are counted, and readers find whole lines."""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from interlock.server.telemetry import line_writer
from interlock.server.telemetry.line_writer import LineWriter
from interlock.server.telemetry.logs import dropped_lines, logging_to_stderr
from tests.support.own_log import logging_to, logging_to_file
from tests.support.running import until


def logger() -> Any:
    return structlog.get_logger("interlock.test")


@contextmanager
def small_pipe(*, blocking: bool = True) -> Iterator[tuple[int, int]]:
    """Return a pipe that holds one page."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, blocking)
    before = set(threading.enumerate())
    try:
        yield reader, writer
    finally:
        os.close(reader)
        # A leftover writer would write to whatever gets this descriptor's number next.
        for thread in set(threading.enumerate()) - before:
            thread.join()
        os.close(writer)


def read_up_to(reader: int, end: bytes) -> list[dict[str, Any]]:
    """Read until a line contains ``end``."""
    text = b""
    while end not in text or not text.endswith(b"\n"):
        text += os.read(reader, 65536)
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("blocking", [True, False])
def test_no_log_call_waits_for_a_reader_and_drops_are_reported(*, blocking: bool) -> None:
    calls = line_writer.LINES + 1_000
    with small_pipe(blocking=blocking) as (reader, writer), logging_to(writer) as log:
        for n in range(calls):
            logger().info("server.ready", orphans_disconnected=n)
        dropped = log.dropped
        assert dropped_lines() == dropped > calls - line_writer.LINES
        rows = read_up_to(reader, b"log.dropped")
        assert log.dropped == dropped
    told = [row for row in rows if row["event"] == "log.dropped"]
    assert [(row["dropped"], row["level"]) for row in told] == [(dropped, "error")]
    # The first ones are there, in order, and whole.
    numbers = [row["orphans_disconnected"] for row in rows if row["event"] == "server.ready"]
    assert numbers == list(range(calls - dropped))


def test_errors_have_reserved_room_in_a_full_log_queue() -> None:
    with small_pipe() as (reader, writer), logging_to(writer) as log:
        for _ in range(line_writer.LINES):
            logger().info("server.ready")
        dropped = log.dropped
        assert dropped > 0
        logger().critical("surface.failed", failure="last words")
        logging.getLogger("library").error("a library's")
        assert log.dropped == dropped
        rows = read_up_to(reader, b"log.dropped")
    assert {"surface.failed", "a library's"} <= {row["event"] for row in rows}


def test_large_log_lines_count_by_their_size() -> None:
    with small_pipe() as (_, writer), logging_to(writer) as log:
        for _ in range(100):
            logger().info("server.ready", because="x" * (line_writer.BYTES // 50))
        assert 50 < log.dropped < 100


def test_closing_the_log_does_not_wait_for_a_reader() -> None:
    with small_pipe() as (_, writer), logging_to(writer) as log:
        for _ in range(100):
            logger().info("server.ready")
        threads = [thread for thread in threading.enumerate() if thread.name == "interlock-log"]
        log.close()
        logger().info("server.stopped")
        log.flush()
        assert threads
        assert all(thread.daemon for thread in threads)


def test_unwritable_log_lines_are_counted_and_later_ones_are_whole(tmp_path: Path) -> None:
    """In a separate process, because the file size limit that simulates a full disk is per process."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "log"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, torn, *rest = (tmp_path / "log").read_text().splitlines()
    assert json.loads(first)["event"] == "server.ready"
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)
    rows = [json.loads(line) for line in rest]
    assert [row["event"] for row in rows] == ["server.stopped", "log.dropped"]
    assert rows[1]["dropped"] == int(done.stdout) == 2


FULL_DISK = """
import resource, sys
import structlog
from interlock.server.telemetry import line_writer
from interlock.server.telemetry.logs import configure_logs
line_writer._LAST_S = 60  # on a busy machine a second is short
log = structlog.get_logger("interlock.test")
with open(sys.argv[1], "wb") as file:
    writer = configure_logs("info", as_json=True, descriptor=file.fileno())
    log.info("server.ready")
    writer.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    log.info("keys.usable")
    writer.flush()
    log.info("keys.usable")
    writer.flush()
    print(writer.dropped)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.info("server.stopped")
    writer.close()
"""


def test_a_forked_process_can_log_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with logging_to_file(path) as lines:
        logger().info("server.ready")
        pid = os.fork()
        if not pid:
            # Whatever happens here, the other tests must not run a second time.
            try:
                logger().info("keys.usable")
                logging.root.handlers[0].flush()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        logger().info("server.stopped")
        events = [json.loads(line)["event"] for line in lines()]
    assert sorted(events) == ["keys.usable", "server.ready", "server.stopped"]


def test_an_unformattable_log_line_is_dropped_silently(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("correct horse")

    with logging_to_file(tmp_path / "log") as lines:
        logger().info("server.ready", because=Odd())
        logging.getLogger("library").warning("%d", "no number")
        logger().info("server.stopped")
        rows = [json.loads(line) for line in lines()]
    assert [(row["event"], row.get("dropped")) for row in rows] == [("server.stopped", None), ("log.dropped", 2)]
    assert capfd.readouterr().err == ""


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "", 0, text, None, None)


def test_the_log_reports_once_some_time_after_a_line(tmp_path: Path) -> None:
    reports: list[int] = []
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno(), lambda: reports.append(1), 0.01)
        writer.setFormatter(logging.Formatter())
        writer.emit(record("one"))
        until(lambda: reports)
        writer.close()
    assert len(reports) == 2, "and at the end"


def test_a_failed_log_writer_thread_is_replaced(tmp_path: Path) -> None:
    failing = [True]

    def report() -> None:
        if failing:
            raise RuntimeError

    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno(), report, 60)
        writer.setFormatter(logging.Formatter())
        hook, threading.excepthook = threading.excepthook, lambda _: None
        try:
            writer.emit(record("one"))
            writer.flush()
        finally:
            threading.excepthook = hook
        failing.clear()
        writer.emit(record("two"))
        writer.close()
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


@pytest.mark.asvs("16.3.4", "16.2.5")
def test_the_error_that_ends_the_server_is_its_last_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The outer log restores everything.
    with logging_to_file(tmp_path / "log"), pytest.raises(SystemExit) as ended, logging_to_stderr("info", as_json=True):
        raise ValueError("correct horse")
    assert ended.value.code == 1
    (row,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (row["event"], row["level"]) == ("server.failed", "critical")
    assert row["traceback"].startswith("ValueError > ")
    assert "server/test_line_writer.py:" in row["traceback"]
    assert "horse" not in str(row)


@pytest.mark.asvs("16.5.4", "16.2.5")
def test_pythons_own_error_output_becomes_a_line_without_messages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("correct horse")

    def end() -> None:
        raise KeyError("correct horse")

    gc.collect()  # what earlier tests have left
    with logging_to_file(tmp_path / "log") as lines:
        del (broken := {"it": Broken()})["it"]
        gc.collect()
        thread = threading.Thread(target=end, name="interlock-some")
        thread.start()
        thread.join()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("take care", stacklevel=1)
        rows = [json.loads(line) for line in lines()]
    assert broken == {}
    first, second, third = rows
    assert (first["event"], first["because"]) == ("task.failed", "Exception ignored")
    assert first["traceback"].startswith("ValueError > server/test_line_writer.py:")
    assert (second["event"], second["task"]) == ("task.failed", "interlock-some")
    assert second["traceback"].partition(" > ")[0] == "KeyError"
    assert (third["logger"], third["level"]) == ("py.warnings", "warning")
    assert "take care" in third["event"]
    assert "horse" not in str(rows)
    assert capfd.readouterr().err == ""
