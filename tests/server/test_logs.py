"""Log lines: one per event, none forged, and none with a credential."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from interlock.machine.errors import IntentFailed, SettingsError
from interlock.server.telemetry.context import begin_request, note_session
from interlock.server.telemetry.logs import event_counts, log_unhandled
from tests.support.asynchronous import asynchronous
from tests.support.own_log import logging_to_file

BAD = (
    "a\nb",
    "a\r\n2026-11-23T12:00:00Z [info] login.succeeded",
    "\x1b[2K\x1b[1A\x1b[31mred",
    "\x9b31m",
    "bell\x07, back\x08, delete\x7f",
    "line\u2028separator\u2029",
    "right-to-left \u202egnp.exe",
    "\x00",
)
CREDENTIALS = (
    "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzaWQiOiJ4In0.c2lnbmF0dXJl",
    "06h0ghq8dc201c7bvbgj27tgdvlmjljf77b0.1.12.vl8EmrLLZJTv_FYsewl55j344fZgFitfwYUkIK1DDLo",
    "ilk_admin_ada-1_vl8EmrLLZJTv_FYsewl55j344fZgFitfwYUkIK1DDLo",
    "ticket.vl8EmrLLZJTv_FYsewl55j344fZgFitfwYUkIK1DDLo",
    "whsec_vl8EmrLLZJTv/FYsewl55j344fZgFitfwYUkIK1DDLo=",
)


@pytest.fixture(params=["json", "text"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """Return the lines logged since the last call."""
    with logging_to_file(tmp_path / "log", as_json=request.param == "json") as lines:
        yield lines


def logger() -> Any:
    return structlog.get_logger("interlock.test")


@pytest.mark.asvs("16.4.1")
@pytest.mark.parametrize("value", BAD)
def test_no_logged_value_starts_a_line_or_controls_a_terminal(log: Callable[[], list[str]], value: str) -> None:
    logger().info("server.ready", first=value, second=[value], third={"x": value}, fourth=value.encode(), fifth=3)
    logging.getLogger("foreign").warning("it says %s", value)
    lines = log()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.asvs("16.2.5")
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_text_that_looks_like_a_credential_is_masked_in_the_log(log: Callable[[], list[str]], credential: str) -> None:
    logger().info("server.ready", first=f"x {credential} y", second=[credential])
    logging.getLogger("foreign").error("GET /?token=%s", credential)
    assert [line for line in log() if "(masked)" in line] == log()
    assert credential.rpartition(".")[2] not in "".join(log())


@pytest.mark.asvs("16.2.5")
def test_a_logged_exception_has_no_message_and_no_variables(log: Callable[[], list[str]]) -> None:
    def inner(password: str) -> int:
        return int(password)

    try:
        try:
            inner("correct horse\nbattery staple")
        except ValueError as error:
            raise ExceptionGroup("correct horse", [KeyError("correct horse"), OSError(28, "No space")]) from error
    except ExceptionGroup as error:
        logger().error("http.failed", exc_info=error)
        logger().exception("socket.failed")
        logging.getLogger("foreign").exception("foreign")
    lines = log()
    assert len(lines) == 3
    for line in lines:
        assert "correct horse" not in line
        assert "ExceptionGroup (KeyError, OSError: [Errno 28] No space)" in line
        assert "; from ValueError" in line
        assert re.search(r"server/test_logs.py:\d+ inner", line)


def test_own_and_system_errors_are_logged_with_their_message(log: Callable[[], list[str]]) -> None:
    error = SettingsError("the setting is wrong")
    logger().error("http.failed", exc_info=(SettingsError, error, None))
    logger().error("http.failed", exc_info=True)
    try:
        raise FileNotFoundError(2, "No such file", "/data/x")
    except OSError as missing:
        missing.__context__ = missing
        logger().error("http.failed", exc_info=missing)
    first, second, third = log()
    assert "SettingsError: " in first
    assert "traceback" not in second
    assert "No such file" in third


@pytest.mark.asvs("16.2.5")
@pytest.mark.parametrize("event", ["execution.error", "execution.store_failed", "task.failed"])
def test_an_error_of_realm_code_is_logged_without_its_message(log: Callable[[], list[str]], event: str) -> None:
    """Its text is for whoever submitted the intent, and may repeat the parameters."""
    for error in (
        IntentFailed("correct horse"),
        OSError("correct horse"),
        FileNotFoundError(2, "correct horse", "/correct horse"),
        ExceptionGroup("correct horse", [IntentFailed("correct horse")]),
    ):
        logger().error(event, execution_id=repr(type(error)), intent="x", exc_info=error)
    lines = log()
    assert len(lines) == 4
    assert "correct horse" not in "".join(lines)
    assert "FileNotFoundError: No such file or directory" in lines[2]
    assert "ExceptionGroup (IntentFailed)" in lines[3]


@pytest.mark.asvs("16.5.4")
@asynchronous
async def test_an_uncaught_exception_is_logged_without_its_message(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ValueError("correct horse")

    with logging_to_file(tmp_path / "log") as lines:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_unhandled)
        task = asyncio.create_task(fail(), name="interlock-expiry")
        await asyncio.wait({task})
        del task
        loop.call_soon(int, "correct horse")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.set_exception_handler(None)
        rows = [json.loads(line) for line in lines()]
    assert [(row["event"], row["task"], row["because"]) for row in rows] == [
        ("task.failed", "interlock-expiry", "Task exception was never retrieved"),
        ("task.failed", None, "Exception in callback int"),
    ]
    assert all(row["traceback"].startswith("ValueError") for row in rows)
    assert "correct horse" not in str(rows)


@pytest.mark.asvs("16.2.1")
def test_a_log_line_has_time_event_and_its_requests_fields(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log") as lines:

        def request() -> None:
            note_session("nobody's")
            begin_request("req_1", "127.0.0.1")
            note_session("s")
            logger().warning("login.failed", method="password")

        contextvars.Context().run(request)
        (row,) = [json.loads(line) for line in lines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row.pop("timestamp"))
    assert row == {
        "client": "127.0.0.1",
        "event": "login.failed",
        "level": "warning",
        "logger": "interlock.test",
        "method": "password",
        "request_id": "req_1",
        "session_id": "s",
    }


def test_every_event_is_counted_even_below_the_log_level(tmp_path: Path) -> None:
    with logging_to_file(tmp_path / "log", level="error") as lines:
        before = event_counts().get("login.succeeded", 0)
        logger().info("login.succeeded")
        logging.getLogger("asyncio").warning("shown if the threshold is lower")
        assert lines() == []
        assert event_counts()["login.succeeded"] == before + 1
