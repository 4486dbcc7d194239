"""The storage as opened for the services: the log, and what is told of its commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from interlock.machine.closing import Close
from interlock.machine.errors import ClockBehind
from interlock.machine.times import rfc3339
from interlock.server.clock import SystemClock
from interlock.server.runtime.connections import Connections
from interlock.server.settings import Settings
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.surface.sqlite.writer import Batch
from interlock.server.system.host import CLOCK_TOLERANCE_MS
from interlock.server.system.supervision import Supervisor
from interlock.server.telemetry.metrics_recorder import MetricsRecorder
from interlock.server.telemetry.model_trace import TraceWriter, open_trace

if TYPE_CHECKING:
    from interlock.server.telemetry.spans import Spans

_log = structlog.get_logger("interlock.server")


class Watchers(msgspec.Struct):
    """The receivers of every committed batch."""

    spans: Spans | None
    metrics: MetricsRecorder

    def committed(self, batch: Batch) -> None:
        """Pass a committed batch to metrics and spans."""
        self.metrics.batch(batch)
        if self.spans is not None:
            self.spans.batch(batch)

    def late_outcome(self) -> None:
        """Count a result that a realm's code returned too late."""
        self.metrics.late_outcome()

    def blocked(self, realm: str, seconds: float) -> None:
        """Count the ``seconds`` for which the code of ``realm`` has held the event loop."""
        self.metrics.blocked(realm, seconds)


class Storage(msgspec.Struct):
    """The open log, and the receivers of its events."""

    surface: Surface
    trace: TraceWriter
    spans: Spans | None
    watchers: Watchers
    supervisor: Supervisor


@asynccontextmanager
async def open_storage(settings: Settings, connections: Connections, supervisor: Supervisor) -> AsyncIterator[Storage]:
    """Open the log with all that is told of its commits, until the context ends. If the log stops, ``connections`` close.

    Raises:
        SurfaceLocked, SurfaceFailed: the log can't be opened.
        SettingsError: the trace or the spans can't be opened.
    """

    def stop(failure: str) -> None:
        # Fail-stop: memory may be ahead of the disk, so no socket may stay open.
        _log.critical("surface.failed", failure=failure)
        connections.close_all(Close("internal_error"))

    async with open_trace(settings) as trace, _open_spans(settings) as spans:
        watchers = Watchers(spans, MetricsRecorder())
        async with open_surface(
            Path(settings.data),
            max_waiting=settings.write_queue,
            on_failure=stop,
            on_commit=trace.appended,
            on_batch=watchers.committed,
            supervisor=supervisor,
        ) as surface:
            yield Storage(surface, trace, spans, watchers, supervisor)


async def newest_time(surface: Surface, settings: Settings) -> int:
    """Return the time of the newest record, below which the clock must not go.

    Raises:
        ClockBehind: the machine's clock is too far behind it. Tokens would be valid for that much longer.
    """
    latest_ms, now_ms = await surface.log.latest_at_ms(), SystemClock().now_ms()
    if is_behind(latest_ms, now_ms, settings):
        _log.warning("clock.behind_the_log", newest_record=rfc3339(latest_ms), now=rfc3339(now_ms))
    return latest_ms


def is_behind(latest_ms: int, now_ms: int, settings: Settings) -> bool:
    """Return whether this machine's clock, at ``now_ms``, is behind the newest record, which is of ``latest_ms``.

    Raises:
        ClockBehind: it is too far behind it.
    """
    if latest_ms > now_ms + settings.clock_behind_s * 1000:
        raise ClockBehind(
            f"the newest record is of {rfc3339(latest_ms)}, and this machine's clock says {rfc3339(now_ms)}: set the clock"
            " right; if it is right, restore an older log, or raise the setting clock_behind_s"
        )
    return latest_ms > now_ms + CLOCK_TOLERANCE_MS


@asynccontextmanager
async def _open_spans(settings: Settings) -> AsyncIterator[Spans | None]:
    """Open the sender of OpenTelemetry spans until the context ends; None if it is not configured.

    Raises:
        SettingsError: the extra is not installed.
    """
    if not settings.otel_endpoint:
        yield None
        return
    from interlock.server.telemetry.spans import Spans

    spans = Spans(settings)
    try:
        yield spans
    finally:
        await spans.close()
