"""Optional OpenTelemetry spans: one for each request, each recorded transition and each commit.

A transition's span is a child of its request's; a commit's span links to every transition it wrote. Names and attributes
follow OpenTelemetry's semantic conventions for HTTP where they exist. No address, header or body is ever an attribute. This
module is imported only if the setting ``otel_endpoint`` is set, and needs the extra ``interlock[otel]``.
"""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Any, Final

import structlog

from interlock.machine.errors import SettingsError
from interlock.machine.ledger import Record
from interlock.server.settings import Settings
from interlock.server.surface.sqlite.writer import Batch, Unit

try:
    from opentelemetry import context as otel_context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise SettingsError(
        f"otel_endpoint is set, and OpenTelemetry is not installed ({error.name}): install Interlock with its extra `otel`"
    ) from None

_log = structlog.get_logger("interlock.server")

_SERVER_ERROR: Final = 500
_PATIENCE_S: Final = 2.0
_TRACE_HEADERS: Final = (b"traceparent", b"tracestate")


class RequestSpan:
    """The span of one request, current until :meth:`leave`."""

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        self._token = otel_context.attach(set_span_in_context(span))

    def answered(self, route: str, status: int, session_id: str | None) -> None:
        """Record the start of the response."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if session_id is not None:
            self._span.set_attribute("interlock.session_id", session_id)
        if status >= _SERVER_ERROR:
            self._span.set_status(Status(StatusCode.ERROR))

    def leave(self) -> None:
        """End the span, and restore the previous one. Call it in the context that began it."""
        self._span.end()
        otel_context.detach(self._token)


class Spans:
    """Creates spans, and sends them in a separate thread. The SDK reads other ``OTEL_…`` variables as usual."""

    def __init__(self, settings: Settings) -> None:
        self._trusts_caller = settings.trust_request_ids
        own = Resource(
            {
                "service.name": "interlock",
                "service.version": version("interlock"),
                "service.instance.id": settings.node,
            }
        )
        # The environment overrides these attributes, which override the SDK's defaults.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        endpoint = f"{settings.otel_endpoint.rstrip('/')}/v1/traces"
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("interlock", version("interlock"))
        self._incoming = TraceContextTextMapPropagator()
        # Spans carry wall-clock times; durations are measured by the monotonic clock.
        self._wall_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        _log.info("spans.sending", url=endpoint)

    def begin(self, scope: Any, method: str, request_id: str) -> RequestSpan:
        """Begin the span of the request in ``scope``. The caller's span is its parent if its ids are trusted."""
        parent = None
        if self._trusts_caller:
            carrier = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"] if k in _TRACE_HEADERS}
            parent = self._incoming.extract(carrier)
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "interlock.request_id": request_id},
        )
        return RequestSpan(span, method)

    def batch(self, batch: Batch) -> None:
        """Create a span for each transition and other write, and one for their commit."""
        links = []
        for unit, outcome in zip(batch.units, batch.outcomes, strict=True):
            records = outcome if isinstance(outcome, list) else [None]
            for record in records:
                span = self._written(unit, record, outcome, batch.resolved_ns)
                links.append(Link(span.get_span_context()))
        commit = self._tracer.start_span(
            "commit",
            context=otel_context.Context(),
            start_time=self._wall(batch.began_ns),
            links=links,
            attributes={"interlock.writes": len(batch.units)},
        )
        commit.end(self._wall(batch.ended_ns))

    async def close(self) -> None:
        """Send waiting spans, and stop. The wait for an unresponsive receiver is shorter than the SDK's."""
        impatience = asyncio.get_running_loop().call_later(_PATIENCE_S, self._exporter.shutdown)
        await asyncio.to_thread(self._provider.shutdown)
        impatience.cancel()

    def _written(self, unit: Unit[Any, Any], record: Any, outcome: Any, resolved_ns: int) -> Span:
        attributes: dict[str, str | int] = {}
        name = "write"
        if isinstance(record, Record):
            move = record.transition
            name = f"append {move.event}"
            attributes = {
                "interlock.kind": move.kind,
                "interlock.instance_id": move.instance_id,
                "interlock.event": move.event,
                "interlock.version": move.version,
                "interlock.position": record.position,
            }
        context = unit.context.run(otel_context.get_current)
        span = self._tracer.start_span(
            name, context=context, start_time=self._wall(unit.submitted_ns), attributes=attributes
        )
        if isinstance(outcome, Exception):
            span.set_status(Status(StatusCode.ERROR, type(outcome).__name__))
        span.end(self._wall(resolved_ns))
        return span

    def _wall(self, monotonic_ns: int) -> int:
        return monotonic_ns + self._wall_minus_monotonic_ns
