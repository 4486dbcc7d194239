"""A realm for tests of streams: ``--realm tests.support.talkers:realm``. Its code emits numbers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from msgspec import Meta, Struct

from interlock import Context, Realm

realm = Realm("talk")

REALM: Final = "tests.support.talkers:realm"
"""The value of the setting ``realm``."""


class Count(Struct):
    to: Annotated[int, Meta(ge=0, le=100_000)] = 0
    pause_s: float = 0
    padding: Annotated[int, Meta(ge=0, le=16_000)] = 0
    """Characters beside each number."""


class Counted(Struct):
    last: int


class Nothing(Struct):
    """No parameters."""


@realm.intent("talk.count", effects="idempotent", timeout_s=600)
async def count(context: Context, parameters: Count) -> Counted:
    """Emit the numbers from 1, with a pause after each."""
    for number in range(1, parameters.to + 1):
        await context.emit({"n": number, "padding": "x" * parameters.padding} if parameters.padding else number)
        await asyncio.sleep(parameters.pause_s)
    return Counted(parameters.to)


@realm.intent("talk.wait", timeout_s=600)
async def wait(context: Context, _parameters: Nothing) -> None:
    """Emit that it has begun, and wait until somebody cancels it."""
    await context.emit("begun")
    await asyncio.Event().wait()


@realm.intent("talk.finish", timeout_s=600, on_session_end="finish")
async def finish(context: Context, parameters: Count) -> Counted:
    """Count, also after the session has ended."""
    return await count(context, parameters)


@realm.intent("talk.staff", roles=["staff"])
async def staff(_context: Context, _parameters: Nothing) -> None:
    """Return nothing, to members of the staff only."""
