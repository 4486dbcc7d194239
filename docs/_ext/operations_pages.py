"""The reference of what operators read: metrics and log events."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

from pieces import code, table

from interlock.server.telemetry.events.log_events import CONTEXT, EVENTS, FIELDS, GROUPS, Event
from interlock.server.telemetry.metrics import ROWS


def metrics() -> str:
    """Every metric of ours."""
    return table(
        ("metric", "kind", "labels", "what it is"),
        [
            (code(row.name), row.kind.__name__.lower(), ", ".join(map(code, row.labels)), row.about)
            for row in sorted(ROWS, key=lambda row: row.name)
        ],
    )


def log_events() -> str:
    """Every event, by group."""
    parts = []
    for group, title in GROUPS.items():
        rows = [row for row in EVENTS.values() if row.group == group]
        cells = [
            (code(row.name), row.level, row.about, ", ".join(map(code, row.fields)), _repeats(row)) for row in rows
        ]
        parts.append(f"### {title}\n\n{table(('event', 'level', 'what happened', 'fields', 'repeats by'), cells)}")
    return "\n".join(parts)


def _repeats(row: Event) -> str:
    """By what repeats of an event are counted; empty if each of them has a line."""
    if row.repeats is None:
        return ""
    return ", ".join(map(code, (*row.repeats, row.source or ("place" if row.group == "fault" else "client"))))


def log_fields() -> str:
    """Every field."""
    return table(
        ("field", "what it is"),
        [
            (code(name) + (" (every line of a request)" if name in CONTEXT else ""), about)
            for name, about in FIELDS.items()
        ],
    )
