"""Structured logs on standard error: text for people, or JSON lines for machines. One event, one line.

A call never waits for the reader of the lines (:mod:`interlock.server.telemetry.line_writer`), and repeats become a number
(:mod:`interlock.server.telemetry.repeats`).

No call in this project logs a credential, a header or a body. As a second defence, characters that could forge a line or
control a terminal are escaped (ASVS 16.4.1), and text in the form of one of this server's credentials is masked (16.2.5).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from interlock.machine.errors import InterlockError
from interlock.server.system.streams import STDERR, printable
from interlock.server.telemetry.context import merge_request
from interlock.server.telemetry.faults import exception_of
from interlock.server.telemetry.line_writer import LineWriter
from interlock.server.telemetry.repeats import EVERY_S, Repeats

_log = structlog.get_logger("interlock.server")

_CREDENTIAL: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JWT: an access token, an identity provider's
    r"|[0-9a-v]{36}\.\d+\.\d+\.[\w-]{20,}"  # a refresh token
    r"|ilk_[a-z]+_[a-z0-9-]+_[\w-]{20,}"  # another program's secret
    r"|ticket\.[\w-]{20,}"  # a ticket, as a subprotocol
    r"|whsec_[A-Za-z0-9+/]{20,}={0,2}"  # what messages to a webhook or a remote realm are signed with
)
_MASK: Final = "(masked)"
_FRAMES: Final = 30
_OF_REALMS: Final = frozenset({"execution.error", "execution.store_failed", "task.failed"})
"""The events whose exceptions the code of a realm may have raised, with a text from its clients."""

_counts: Final[Counter[str]] = Counter()
# Reentrant: a garbage collection within may log.
_counting: Final = threading.RLock()
_output: tuple[LineWriter, list[Processor]] | None = None


class EventLogger:
    """The end of structlog's chain: queues the line of an event. A record of :mod:`logging` would cost as much again."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _add(self, level: int, /, **event: Any) -> None:
        if _output is not None:
            writer, render = _output
            writer.add(level, lambda: self._line(event, render))

    debug = functools.partialmethod(_add, logging.DEBUG)
    info = functools.partialmethod(_add, logging.INFO)
    warning = functools.partialmethod(_add, logging.WARNING)
    error = functools.partialmethod(_add, logging.ERROR)
    critical = functools.partialmethod(_add, logging.CRITICAL)

    def _line(self, event: Any, render: list[Processor]) -> str:
        for step in render:
            event = step(self, "", event)
        return str(event)


def event_counts() -> dict[str, int]:
    """Return how often this process logged each event, including those without a line: repeats and hidden levels."""
    with _counting:
        return dict(_counts)


def dropped_lines() -> int:
    """Return how many lines of this process were dropped because standard error did not accept them."""
    return _output[0].dropped if _output is not None else 0


@contextmanager
def logging_to_stderr(level: str, *, as_json: bool) -> Iterator[LineWriter]:
    """Send structlog's and the standard library's records of ``level`` and above to standard error, until the context ends.

    An exception that ends the context is logged as ``server.failed`` and becomes exit status 1. The end of the context
    waits at most a second for unwritten lines.
    """
    writer = configure_logs(level, as_json=as_json)
    try:
        yield writer
    except Exception as error:
        _log.critical("server.failed", exc_info=error)
        raise SystemExit(1) from error
    finally:
        writer.close()


def configure_logs(level: str, *, as_json: bool, descriptor: int = STDERR) -> LineWriter:
    """Send structlog's and the standard library's records of ``level`` and above to ``descriptor``.

    The same holds for warnings, and for exceptions that Python would otherwise print to standard error, where a full pipe would
    block the thread.
    """
    levels = logging.getLevelNamesMapping()
    threshold = levels[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor] = [
        _describe_exception,
        _make_harmless,
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=os.isatty(descriptor)),
    ]

    def filter_by_level(_logger: Any, method: str, event: EventDict) -> EventDict:
        if levels[method.upper()] < threshold:
            raise structlog.DropEvent
        return event

    repeats = Repeats(EventLogger, shared)
    structlog.configure(
        processors=[_count, filter_by_level, merge_request, repeats.drop_repeats, *shared],
        logger_factory=EventLogger,
        # All levels reach the count; the filter above then drops what is below the threshold.
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=True,
    )
    writer = LineWriter(descriptor, repeats.report, EVERY_S)
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[merge_request, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    writer.addFilter(repeats.filter)
    logging.root.handlers = [writer]
    logging.getLogger("interlock").setLevel(threshold)
    # Libraries log request URLs at lower levels. A client may have put a secret there.
    logging.root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread
    global _output  # noqa: PLW0603  # a process has one standard error
    _output = writer, render
    return writer


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Event loop exception handler (ASVS 16.5.4). asyncio's own would quote the exceptions' messages."""
    task = context.get("task") or context.get("future")
    _log.error(
        "task.failed",
        task=task.get_name() if isinstance(task, asyncio.Task) else None,
        # Brackets may contain the callback's arguments.
        because=re.split(r"[<(]", context["message"])[0].strip(),
        exc_info=context.get("exception"),
    )


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Python hook: log an exception that can't be caught, without the object it came from, which may hold anything."""
    _log.error("task.failed", because=unraisable.err_msg or "Exception ignored", exc_info=unraisable.exc_value)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Python hook: log an exception that ended a thread."""
    name = ended.thread.name if ended.thread is not None else None
    _log.error("task.failed", task=name, because="Exception in thread", exc_info=ended.exc_value)


def _count(_logger: Any, _method: str, event: EventDict) -> EventDict:
    with _counting:
        _counts[event["event"]] += 1
    return event


def _describe_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Describe an exception by kinds and places on one line. Its message may quote a client, and its variables secrets."""
    event.pop("stack_info", None)
    error = exception_of(event.pop("exc_info", None))
    if error is not None:
        tells = event["event"] not in _OF_REALMS
        event["traceback"] = "; from ".join(_description(each, tells=tells) for each in _chain(error))
    return event


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, its cause, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _description(error: BaseException, *, tells: bool) -> str:
    """Return the kind and the places of ``error``, and if it ``tells``, the message that Interlock or the system gave it."""
    name = type(error).__qualname__
    if tells and isinstance(error, InterlockError | OSError):
        name = f"{name}: {error}"
    elif isinstance(error, OSError) and error.errno is not None:
        name = f"{name}: {os.strerror(error.errno)}"
    if isinstance(error, BaseExceptionGroup):
        name = f"{name} ({', '.join(_description(each, tells=tells) for each in error.exceptions)})"
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), limit=-_FRAMES, lookup_lines=False, capture_locals=False
    )
    places = (f"{'/'.join(Path(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in frames)
    return " > ".join((name, *places))


def _make_harmless(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {name: _harmless(value) for name, value in event.items()}


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return printable(_CREDENTIAL.sub(_MASK, value))
    if value is None or isinstance(value, bool | int | float):
        return value
    return _harmless(repr(value))
