"""What may be measured: the calls that the rest of the server makes, and what becomes of them when nobody measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import Record
from interlock.server.surface.sqlite.writer import Batch


class Unmeasured:
    """Measures that nobody asked for: every call does nothing. Compare :class:`interlock.server.telemetry.metrics.Metrics`."""

    def watch(self, readings: Mapping[str, Callable[[], float]]) -> None:
        """Gauges, by name, that are read when somebody asks for the metrics."""

    def observe(self, record: Record, instance: Any | None) -> None:
        """``record`` was written; ``instance`` is how it stands after it, if this process wrote it."""

    def refused(self, kind: str, instance_id: str, refusal: TransitionRefused) -> None:
        """A command to an instance of ``kind`` was refused."""

    def batch(self, batch: Batch) -> None:
        """Writes were committed together and their callers woken."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request to ``route``, a template, was answered with ``status`` after ``seconds``."""

    def problem(self, name: str) -> None:
        """A problem was answered; ``name`` is the last part of its type."""

    def closed(self, code: int, by: str) -> None:
        """A WebSocket was closed with ``code``, by the ``server`` or the ``client``."""

    def ended(self, decided_at_ms: int) -> None:
        """The close frame of a WebSocket, whose session's end was decided at ``decided_at_ms``, is on its way."""
