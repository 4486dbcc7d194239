"""The server's log in the process of a test, written to a file or a pipe."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import structlog

from interlock.server.telemetry import line_writer, logs
from interlock.server.telemetry.line_writer import LineWriter
from interlock.server.telemetry.logs import configure_logs


@contextmanager
def logging_to(descriptor: int, *, as_json: bool = True, level: str = "info") -> Iterator[LineWriter]:
    """Log to ``descriptor`` until the context ends; then restore everything."""
    loggers = [logging.root, logging.getLogger("interlock")]
    before = logging.root.handlers, [logger.level for logger in loggers], sys.unraisablehook, threading.excepthook
    # Repeats are reported when a test asks, however slow the machine is.
    with mock.patch.object(logs, "EVERY_S", 3600):
        writer = configure_logs(level, as_json=as_json, descriptor=descriptor)
    # Otherwise the server's loggers would keep the processors of the first test that used them.
    structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})
    try:
        yield writer
    finally:
        logging.root.handlers, levels, sys.unraisablehook, threading.excepthook = before
        for logger, its in zip(loggers, levels, strict=True):
            logger.setLevel(its)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
        writer.close()


@contextmanager
def logging_to_file(path: Path, *, as_json: bool = True, level: str = "info") -> Iterator[Callable[[], list[str]]]:
    """Log to a file. Yield a function that reads its lines, after which repeats count as first ones again."""
    with path.open("ab") as file, logging_to(file.fileno(), as_json=as_json, level=level) as writer:

        def lines() -> list[str]:
            # A flush waits at most a second, which is short on a busy machine.
            with mock.patch.object(line_writer, "_LAST_S", 60):
                writer.flush()
            return path.read_text().split("\n")[:-1]

        yield lines
