"""The log's vocabulary: every logged event is declared, and every declared one is logged."""

from __future__ import annotations

import re

import pytest

from interlock.server.telemetry.events.log_events import CONTEXT, EVENTS, FIELDS, GROUPS
from tests.support.calls_of_the_log import calls

CALLS = list(calls())


@pytest.mark.asvs("16.3.3")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.place} {call.event}")
def test_every_logged_event_is_declared(call: object) -> None:
    assert call in CALLS
    place, level, event, fields = (getattr(call, name) for name in ("place", "level", "event", "fields"))
    assert event in EVENTS, f"{place}: add a row for {event} to server/telemetry/events/log_events.py"
    row = EVENTS[event]
    assert level == row.level or (level, row.level) == ("exception", "error"), f"{place}: {event} is {row.level}"
    declared = {"exc_info" if name == "traceback" else name for name in row.fields}
    assert fields <= declared | set(CONTEXT), f"{place}: {event} has no field {sorted(fields - declared)}"


@pytest.mark.asvs("16.2.1")
def test_every_declared_event_is_logged_with_all_its_fields() -> None:
    logged: dict[str, set[str]] = {}
    for call in CALLS:
        told = logged.setdefault(str(call.event), set())
        told |= {"traceback" if name == "exc_info" else name for name in call.fields}
        if call.level == "exception":
            told.add("traceback")
    assert set(logged) == set(EVENTS)
    for name, row in EVENTS.items():
        assert set(row.fields) <= logged[name], f"{name}: nothing logs {sorted(set(row.fields) - logged[name])}"


def test_the_table_of_events_is_well_formed() -> None:
    # The last two occur only in lines with a number, so no call in the source names them.
    used = {field for row in EVENTS.values() for field in row.fields} | set(CONTEXT) | {"place", "repeated"}
    assert used == set(FIELDS)
    assert list(FIELDS) == sorted(FIELDS)
    for row in EVENTS.values():
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", row.name)
        assert row.group in GROUPS
        assert row.about.endswith((".", ")."))
        assert set(row.repeats or ()) <= set(row.fields)
