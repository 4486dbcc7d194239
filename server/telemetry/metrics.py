"""Prometheus metrics: one table of names, and what updates them. Imported only if a port is set.

No label holds a value that clients choose: routes are templates, events and guards are declared, close codes are those of
the table. Everything but the encoding for a scrape runs on the event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from interlock.machine.closing import CLOSE_CODES
from interlock.machine.errors import TransitionRefused
from interlock.machine.execution.commands import Accept
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record
from interlock.machine.machine import Machines
from interlock.server.clock import Clock
from interlock.server.surface.sqlite.engine import library_version
from interlock.server.surface.sqlite.writer import Batch
from interlock.server.telemetry.events.log_events import EVENTS
from interlock.server.telemetry.logs import dropped_lines, event_counts
from interlock.server.telemetry.metrics_recorder import CallbackResult, CallResult, MetricsRecorder

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CODES: Final = frozenset({row.code for row in CLOSE_CODES.values()} | {1005, 1006})
_NS_PER_S: Final = 1e9


class Row(msgspec.Struct, frozen=True):
    """One metric: name, meaning, labels. ``buckets`` only for histograms."""

    kind: type[Counter | Gauge | Histogram]
    name: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


ROWS: Final = (
    Row(Gauge, "interlock_instances", "What has not ended, by kind (`session`, …) and state.", ("kind", "state")),
    Row(Counter, "interlock_transitions_total", "Recorded transitions, by kind and event.", ("kind", "event")),
    Row(
        Counter,
        "interlock_refusals_total",
        "Commands that a lifecycle refused, by event and by the guard that failed (`undeclared`: it has no such transition).",
        ("kind", "event", "guard"),
    ),
    Row(Counter, "interlock_instances_ended_total", "What has ended, by kind and reason.", ("kind", "reason")),
    Row(Gauge, "interlock_connections", "Open WebSockets, those that are just arriving included."),
    Row(
        Counter,
        "interlock_socket_closes_total",
        "Closed WebSockets, by close code (`other`: one that no client of ours sends) and by who closed: `server`, `client`.",
        ("code", "by"),
    ),
    Row(
        Histogram,
        "interlock_revoke_to_close_seconds",
        "From the moment a session's end was decided until the close frame of one of its WebSockets was handed to the network.",
        buckets=_FAST,
    ),
    Row(
        Histogram,
        "interlock_socket_round_trip_seconds",
        "From a ping on a WebSocket to its pong: the network, and how promptly both ends respond.",
        buckets=_FAST,
    ),
    Row(Gauge, "interlock_streams", "Streams of sessions that are kept for WebSockets, or for those that may resume."),
    Row(Gauge, "interlock_stream_bytes", "About the memory of all streams; `streams_mib` limits it."),
    Row(
        Histogram,
        "interlock_append_seconds",
        "From handing a write to the log until it is on disk and its caller is woken.",
        buckets=_FAST,
    ),
    Row(Histogram, "interlock_commit_seconds", "One commit: statements and the wait for the disk.", buckets=_FAST),
    Row(Histogram, "interlock_append_batch_size", "Writes that were committed together.", buckets=_SIZES),
    Row(Gauge, "interlock_write_queue_depth", "Writes that wait for the disk; at `write_queue` callers get 503."),
    Row(Gauge, "interlock_read_queue_depth", "Reads that wait for the disk; at 4096 callers get 503."),
    Row(Gauge, "interlock_log_failed", "1 once the log has stopped at an I/O error: only a restart helps."),
    Row(Gauge, "interlock_background_failing", "How much background work has failed in the last half minute."),
    Row(
        Gauge,
        "interlock_disk_low",
        "1 while the disk has less free space than `disk_reserve_mib`: only ends, lost rights and new secrets are recorded.",
    ),
    Row(Gauge, "interlock_head_failing", "1 while the signed head can't be written: before long writes get 503."),
    Row(
        Gauge,
        "interlock_clock_ahead_seconds",
        "How far the server's time is ahead of the machine's clock: more than a moment, and the clock was set back.",
    ),
    Row(
        Gauge,
        "interlock_keys_unusable",
        "1 while the key files can't be used: whatever needs a credential is answered 503 until they can.",
    ),
    Row(
        Gauge, "interlock_webhooks_disabled", "Webhooks that nothing is sent to any more until they are enabled again."
    ),
    Row(Gauge, "interlock_webhook_dead_letters", "Messages to webhooks that were given up and not replayed."),
    Row(Gauge, "interlock_webhook_behind_records", "Records that the webhook which is furthest behind has not passed."),
    Row(
        Gauge,
        "interlock_password_queue_depth",
        "Password hashes that wait or are computed; at the limit logins get 503.",
    ),
    Row(
        Histogram,
        "interlock_expiry_lateness_seconds",
        "From a session's deadline until its end was decided. An overdue session is refused all the same.",
        buckets=_FAST,
    ),
    Row(
        Counter,
        "interlock_http_requests_total",
        "Answered requests, by method, by the route's template (`none`: there is no such route) and status; 101: a WebSocket.",
        ("method", "route", "status"),
    ),
    Row(
        Gauge,
        "interlock_executions_running",
        "Executions whose code runs now, including cancelled code that does not stop.",
    ),
    Row(Counter, "interlock_executions_accepted_total", "Accepted executions, by realm.", ("realm",)),
    Row(Counter, "interlock_execution_outcomes_total", "Executions that have ended, by state.", ("state",)),
    Row(
        Counter,
        "interlock_late_outcomes_total",
        "Results that a realm's code returned after its execution had ended or was being stopped; they are refused.",
    ),
    Row(
        Counter,
        "interlock_realm_blocking_seconds_total",
        "Time for which a realm's code held the event loop more than 100 ms at a stretch, by realm. Nothing else ran then.",
        ("realm",),
    ),
    Row(
        Counter,
        "interlock_remote_calls_total",
        "Calls of remote realms, by realm and result: `outcome` (200), `accepted` (202), `unusable` (200 without an outcome),"
        " `refused` (another status), `unanswered` (it broke), `unreached` (nothing was sent).",
        ("realm", "result"),
    ),
    Row(
        Counter,
        "interlock_remote_callbacks_total",
        "Outcomes that remote realms reported, by realm and result: `taken`, `repeated`, `late` (the attempt does not run any"
        " more), `unsigned`.",
        ("realm", "result"),
    ),
    Row(
        Histogram,
        "interlock_http_request_seconds",
        "From a request's arrival to the beginning of its answer.",
        ("method", "route"),
        _FAST,
    ),
    Row(Counter, "interlock_problems_total", "Problems answered, by the last part of their type.", ("type",)),
    Row(
        Counter,
        "interlock_log_events_total",
        "Logged events, by name, whether or not they have a line: repeats, and levels that are not shown.",
        ("event",),
    ),
    Row(Counter, "interlock_log_dropped_total", "Log lines that were dropped: standard error did not take them."),
    Row(Gauge, "interlock_build_info", "Always 1; the labels say what is running.", ("version", "python", "sqlite")),
)
"""Every metric of this server. The process's own (``process_…``) come from prometheus-client."""


def _logged_events() -> dict[tuple[str, ...], int]:
    """Return the counts of all declared events, zeros included: a rate needs a zero to start from."""
    counts = event_counts()
    return {(name,): counts.get(name, 0) for name in EVENTS}


_TOLD: Final[dict[str, Callable[[], dict[tuple[str, ...], int]]]] = {
    "interlock_log_events_total": _logged_events,
    "interlock_log_dropped_total": lambda: {(): dropped_lines()},
}
"""Counters of :mod:`interlock.server.telemetry.logs`, by labels."""


class _Told(Collector):
    """A counter that is read at each scrape."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def collect(self) -> Iterator[Metric]:
        """Yield the current value."""
        family = CounterMetricFamily(self._row.name, self._row.about, labels=self._row.labels)
        for labels, count in _TOLD[self._row.name]().items():
            family.add_metric(labels, count)
        yield family


class PrometheusMetrics(MetricsRecorder):
    """The metrics of one server. ``live``: (kind, state) → number of live instances."""

    def __init__(self, machines: Machines, clock: Clock, live: Mapping[tuple[str, str], int]) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._metrics: dict[str, Any] = {}
        for row in ROWS:
            if row.name in _TOLD:
                self.registry.register(_Told(row))
                continue
            options: dict[str, Any] = {"buckets": row.buckets} if row.buckets else {}
            self._metrics[row.name] = row.kind(row.name, row.about, row.labels, registry=self.registry, **options)
        ProcessCollector(registry=self.registry)
        # Children known in advance: counted without a look-up, and zero before their first count.
        self._live = {
            (machine.kind, state.name): self._metrics["interlock_instances"].labels(machine.kind, state.name)
            for machine in machines
            for state in machine.lifecycle.states
            if not state.final
        }
        for place, count in live.items():
            self._live[place].set(count)
        self._transitions = {
            (machine.kind, event.name): self._metrics["interlock_transitions_total"].labels(machine.kind, event.name)
            for machine in machines
            for event in machine.lifecycle.events
        }
        for state in EXECUTION_MACHINE.final:
            self._metrics["interlock_execution_outcomes_total"].labels(state)
        self._machines = machines
        self._append_seconds = self._metrics["interlock_append_seconds"]
        self._children: dict[tuple[str, ...], Any] = {}
        self._requests: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        build = (version("interlock"), sys.version.partition(" ")[0], library_version())
        self._metrics["interlock_build_info"].labels(*build).set(1)

    def watch(self, readings: Mapping[str, Callable[[], float]]) -> None:
        """See :meth:`MetricsRecorder.watch`."""
        for name, reading in readings.items():
            self._metrics[name].set_function(reading)

    def observe(self, record: Record, instance: Any | None) -> None:
        """See :meth:`MetricsRecorder.observe`."""
        move = record.transition
        kind = move.kind
        self._transitions[kind, move.event].inc()
        if move.source == move.target:
            return
        if move.source is not None:
            self._live[kind, move.source].dec()
        elif isinstance(move.data, Accept):
            self._child("interlock_executions_accepted_total", move.data.realm).inc()
        live = self._live.get((kind, move.target))
        if live is not None:
            live.inc()
            return
        machine = self._machines.of(record.position, kind)
        if kind == EXECUTION_MACHINE.kind:
            self._child("interlock_execution_outcomes_total", move.target).inc()
        field = machine.copied.get("reason", {}).get(move.event)
        reason = "" if field is None else getattr(move.data, field)
        self._child("interlock_instances_ended_total", kind, reason).inc()
        if move.event != "expire" or instance is None:
            return
        keys = machine.keys(instance)
        if keys.deadline_ms is not None:
            self._metrics["interlock_expiry_lateness_seconds"].observe((move.at_ms - keys.deadline_ms) / 1000)

    def refused(self, kind: str, _instance_id: str, refusal: TransitionRefused) -> None:
        """See :meth:`MetricsRecorder.refused`."""
        self._child("interlock_refusals_total", kind, refusal.event, refusal.guard or "undeclared").inc()

    def batch(self, batch: Batch) -> None:
        """See :meth:`MetricsRecorder.batch`."""
        seen_ns = batch.resolved_ns
        for unit in batch.units:
            self._append_seconds.observe((seen_ns - unit.submitted_ns) / _NS_PER_S)
        self._metrics["interlock_commit_seconds"].observe((batch.ended_ns - batch.began_ns) / _NS_PER_S)
        self._metrics["interlock_append_batch_size"].observe(len(batch.units))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """See :meth:`MetricsRecorder.answered`."""
        key = (method, route, status)
        pair = self._requests.get(key)
        if pair is None:
            # HTTP's parser knows a limited number of methods, so this is bounded too.
            known = method if method in _METHODS else "other"
            pair = self._requests[key] = (
                self._child("interlock_http_requests_total", known, route, str(status)),
                self._child("interlock_http_request_seconds", known, route),
            )
        pair[0].inc()
        pair[1].observe(seconds)

    def problem(self, name: str) -> None:
        """See :meth:`MetricsRecorder.problem`."""
        self._child("interlock_problems_total", name).inc()

    def closed(self, code: int, by: str) -> None:
        """See :meth:`MetricsRecorder.closed`."""
        self._child("interlock_socket_closes_total", str(code) if code in _CODES else "other", by).inc()

    def round_trip(self, seconds: float) -> None:
        """See :meth:`MetricsRecorder.round_trip`."""
        self._metrics["interlock_socket_round_trip_seconds"].observe(seconds)

    def ended(self, decided_at_ms: int) -> None:
        """See :meth:`MetricsRecorder.ended`."""
        self._metrics["interlock_revoke_to_close_seconds"].observe((self._clock.now_ms() - decided_at_ms) / 1000)

    def late_outcome(self) -> None:
        """See :meth:`MetricsRecorder.late_outcome`."""
        self._metrics["interlock_late_outcomes_total"].inc()

    def blocked(self, realm: str, seconds: float) -> None:
        """See :meth:`MetricsRecorder.blocked`."""
        self._child("interlock_realm_blocking_seconds_total", realm).inc(seconds)

    def remote_call(self, realm: str, result: CallResult) -> None:
        """See :meth:`MetricsRecorder.remote_call`."""
        self._child("interlock_remote_calls_total", realm, result).inc()

    def remote_callback(self, realm: str, result: CallbackResult) -> None:
        """See :meth:`MetricsRecorder.remote_callback`."""
        self._child("interlock_remote_callbacks_total", realm, result).inc()

    def _child(self, *key: str) -> Any:
        """Return the metric named first, with the label values that follow."""
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._metrics[key[0]].labels(*key[1:])
        return child
