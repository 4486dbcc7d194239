"""Every log event: its level, its fields, and its meaning.

Every call such as ``_log.warning("login.failed", method="password")`` must be a row here: same level, no other fields. A
test compares all calls in the source. So the log has a fixed vocabulary, and the page that documents it is generated.
"""

from __future__ import annotations

from typing import Final

from interlock.server.telemetry.events.event import GROUPS, Event, Group, Level
from interlock.server.telemetry.events.fields import CONTEXT, FIELDS
from interlock.server.telemetry.events.of_callers import OF_CALLERS
from interlock.server.telemetry.events.of_server import OF_SERVER

__all__ = ["CONTEXT", "EVENTS", "FIELDS", "GROUPS", "Event", "Group", "Level"]

EVENTS: Final[dict[str, Event]] = {row.name: row for row in (*OF_CALLERS, *OF_SERVER)}
"""Every event by name."""
