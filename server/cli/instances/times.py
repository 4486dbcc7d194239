"""Times on the command line: RFC 3339 as an option's value, and short ones in tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import rich_click as click

from interlock.machine.times import rfc3339

_SECONDS: Final = len("2026-01-23T09:30:00")


class Moment(click.ParamType[int]):
    """An RFC 3339 time with its time zone, in ms since the Unix epoch."""

    name = "time"

    def __init__(self, refusal: str = "is not an RFC 3339 time such as 2026-01-23T09:30:00Z") -> None:
        self._refusal = refusal

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See :class:`click.ParamType`."""
        text = str(value)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} {self._refusal}", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{text!r} has no time zone: append Z or an offset", param, ctx)
        return round(moment.timestamp() * 1000)


def to_the_second(at_ms: int) -> str:
    """Return ``at_ms`` for a table, in UTC: ``2026-01-23 09:30:00``."""
    return rfc3339(at_ms)[:_SECONDS].replace("T", " ")
