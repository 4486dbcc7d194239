"""Aggregation of repeated refusals and faults: the first gets its own line, the others become a number.

A client can cause a refusal with every request, from as many addresses as it has. Within ten seconds, each client gets one
line for each kind of refusal. At the end, another line tells how many more there were. Faults are told apart by their place
in the code instead of the client, errors of realms by the execution. ``repeats`` and ``source`` in
:mod:`interlock.server.telemetry.events.log_events` declare which events are counted, and by what.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from interlock.server.system.addresses import UNKNOWN, limit_key
from interlock.server.telemetry.events.event import Event
from interlock.server.telemetry.events.log_events import EVENTS
from interlock.server.telemetry.faults import exception_of

EVERY_S: Final = 10.0
"""How long repeats are counted before their number is logged."""

SOURCES: Final = 512
"""How many sources (clients, or places in the code) get a line and a number of their own in that time."""

SOURCES_OF_A_KIND: Final = 64
"""How many of them may be of one kind, so that a flood of one kind from many addresses leaves lines to the others."""

KINDS: Final = 256
"""How many kinds are told apart. Fewer are declared; each logger of a library adds one a level."""

_Kind = tuple[str, str, tuple[Any, ...]]
"""Logger, event, values of the event's ``repeats``. For a library's line: logger, level number, nothing."""


class Repeats:
    """Counts repeats. :meth:`drop_repeats` and :meth:`filter` may run in any thread; one thread calls :meth:`report`."""

    def __init__(self, logger_named: Callable[[str], Any], processors: list[Processor]) -> None:
        """``processors`` make the line with the number, for the logger of a name, as structlog calls them."""
        self._logger_named = logger_named
        self._processors = processors
        # Reentrant: a garbage collection within may log.
        self._lock = threading.RLock()
        self._sources = 0
        # None counts the sources beyond the limits.
        self._kinds: dict[_Kind, Counter[str | None]] = {}

    def drop_repeats(self, logger: logging.Logger, _method: str, event: EventDict) -> EventDict:
        """Processor of structlog: return ``event`` if it gets a line.

        Raises:
            DropEvent: it is a repeat, and counted.
        """
        row = EVENTS.get(event["event"])
        if row is None or row.repeats is None:
            return event
        kind = (logger.name, row.name, tuple(map(event.get, row.repeats)))
        if self._is_first(kind, _source(row, event)):
            return event
        raise structlog.DropEvent

    def filter(self, record: logging.LogRecord) -> bool:
        """Filter of logging: return whether a library's ``record`` gets a line. Its text counts, not its arguments."""
        error = exception_of(record.exc_info)
        source = f"{record.msg} ({_place(error)})" if error is not None else str(record.msg)
        return self._is_first((record.name, str(record.levelno), ()), source)

    def report(self) -> None:
        """Log the number of each repeated event since the last call, and start again."""
        with self._lock:
            kinds, self._kinds, self._sources = self._kinds, {}, 0
        for (name, event, values), counts in kinds.items():
            for source, count in counts.items():
                if count:
                    self._log_number(name, event, values, source, count)
                    # Let the event loop run between two lines.
                    time.sleep(0)

    def _is_first(self, kind: _Kind, source: str) -> bool:
        with self._lock:
            counts = self._kinds.get(kind)
            if counts is None:
                if len(self._kinds) >= KINDS:
                    kind = (*kind[:2], ())
                counts = self._kinds.setdefault(kind, Counter())
            if source in counts:
                counts[source] += 1
            elif len(counts) < SOURCES_OF_A_KIND and self._sources < SOURCES:
                counts[source] = 0
                self._sources += 1
                return True
            else:
                counts[None] += 1
            return False

    def _log_number(self, name: str, event: str, values: tuple[Any, ...], source: str | None, count: int) -> None:
        logger = structlog.wrap_logger(self._logger_named(name), processors=self._processors)
        row = EVENTS.get(event)
        if row is None:
            # structlog knows the five levels only; a library may have made one of its own.
            level = min(int(event), logging.CRITICAL) // 10 * 10 or logging.DEBUG
            logger.log(level, source or "other lines of this logger", repeated=count)
            return
        about = dict(zip(row.repeats or (), values, strict=False))
        if source:
            about[row.source or ("place" if row.group == "fault" else "client")] = source
        logger.log(logging.getLevelNamesMapping()[row.level.upper()], event, **about, repeated=count)


def _source(row: Event, event: EventDict) -> str:
    """Return what tells ``event`` apart from others with the same values."""
    if row.source is not None:
        return str(event[row.source])
    if row.group == "fault":
        return _place(exception_of(event.get("exc_info")))
    return limit_key(event.get("client", UNKNOWN))


def _place(error: BaseException | None) -> str:
    """Return the kind of ``error`` and where it was raised; empty if there is none."""
    trace = error.__traceback__ if error is not None else None
    if trace is None:
        return type(error).__name__ if error is not None else ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} > {Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
