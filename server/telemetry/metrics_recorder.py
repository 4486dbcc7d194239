"""The metrics interface that the rest of the server calls, and its no-op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import Record
from interlock.server.surface.sqlite.writer import Batch

CallResult: TypeAlias = Literal["outcome", "accepted", "refused", "unusable", "unanswered", "unreached"]
"""What became of a call of a remote realm: an outcome (200), later one (202), another status, an answer of 200 that says no
outcome, no answer, or nothing was sent."""

CallbackResult: TypeAlias = Literal["taken", "repeated", "late", "unsigned"]


class MetricsRecorder:
    """The interface of metrics, and its no-op: every call does nothing. Compare ``PrometheusMetrics``."""

    def watch(self, readings: Mapping[str, Callable[[], float]]) -> None:
        """Register gauges by name, which are read at each scrape."""

    def observe(self, record: Record, instance: Any | None) -> None:
        """Count ``record``, which was written. ``instance``: its state afterwards, if this process wrote it."""

    def refused(self, kind: str, instance_id: str, refusal: TransitionRefused) -> None:
        """Count a refused command to an instance of ``kind``."""

    def batch(self, batch: Batch) -> None:
        """Measure writes that were committed together, after their callers were woken."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Measure a request to ``route``, a template, answered with ``status`` after ``seconds``."""

    def problem(self, name: str) -> None:
        """Count a problem response. ``name`` is the last part of its type."""

    def closed(self, code: int, by: str) -> None:
        """Count a WebSocket closed with ``code`` by the ``server`` or the ``client``."""

    def round_trip(self, seconds: float) -> None:
        """Measure the time from a ping on a WebSocket to its pong."""

    def ended(self, decided_at_ms: int) -> None:
        """Measure a close frame just sent, for a session whose end was decided at ``decided_at_ms``."""

    def late_outcome(self) -> None:
        """Count a result that a realm's code returned too late."""

    def blocked(self, realm: str, seconds: float) -> None:
        """Count ``seconds`` for which the code of ``realm`` has held the event loop."""

    def remote_call(self, realm: str, result: CallResult) -> None:
        """Count a call of the remote realm ``realm``."""

    def remote_callback(self, realm: str, result: CallbackResult) -> None:
        """Count an outcome that the remote realm ``realm`` has reported."""
