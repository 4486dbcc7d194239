"""What a log event is: its level, its group, its fields, and its meaning."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Group: TypeAlias = Literal["identity", "refusal", "fault", "life"]

GROUPS: Final[dict[Group, str]] = {
    "identity": "Authentication, successful and failed (ASVS 16.3.1)",
    "refusal": "Refused requests and revoked sessions (ASVS 16.3.2, 16.3.3)",
    "fault": "Faults of the server (ASVS 16.3.4)",
    "life": "Normal operation; each request, if the setting `access_log` is on",
}


class Event(msgspec.Struct, frozen=True):
    """One row. ``fields`` are keys of FIELDS; those of CONTEXT need not be listed.

    ``repeats``: a client may cause this event any number of times. Of events with the same ``client`` (for a fault: the
    same place in the code) and the same values of these fields, the first has a line, and the others are counted
    (:mod:`interlock.server.telemetry.repeats`). None: each event has its own line. ``source`` is the field that tells events
    apart in place of the client or the place in the code.
    """

    name: str
    level: Level
    group: Group
    about: str
    fields: tuple[str, ...] = ()
    repeats: tuple[str, ...] | None = None
    source: str | None = None
