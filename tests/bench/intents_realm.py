"""A realm for the bench: its code returns at once, so that what an intent costs is the server's work."""

from __future__ import annotations

import msgspec

from interlock import Context, Realm

realm = Realm("bench")


class Line(msgspec.Struct):
    """Parameters and result."""

    text: str


@realm.intent("bench.say")
async def say(_context: Context, parameters: Line) -> Line:
    """Return the line. The effects are ``once``, as by default."""
    return parameters
