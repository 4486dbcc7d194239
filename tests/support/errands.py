"""A realm for tests of the calls: ``--realm tests.support.errands:realm``. Its code does what its intents are called."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from interlock import Context, Realm

realm = Realm("errands")

REALM = "tests.support.errands:realm"
"""The value of the setting ``realm``."""


class Part(Struct, forbid_unknown_fields=True):
    text: str


class Text(Struct):
    text: Annotated[str, Meta(max_length=100, examples=["hello"])]
    times: Annotated[int, Meta(ge=1, le=10, examples=[1])] = 1
    among: list[Part] = []


class Numbers(Struct):
    numbers: list[float] = []


class Nothing(Struct):
    """No parameters."""


class Said(Struct):
    text: str
    attempt: int


@realm.intent("errands.say", effects="idempotent")
async def say(context: Context, parameters: Text) -> Said:
    """Return the text, as often as asked."""
    return Said(parameters.text * parameters.times, context.attempt)


@realm.intent("errands.add", effects="idempotent")
async def add(_context: Context, _parameters: Numbers) -> None:
    """Return nothing."""


@realm.intent("errands.wait", timeout_s=600)
async def wait(_context: Context, _parameters: Nothing) -> None:
    """Wait until somebody cancels it."""
    await asyncio.Event().wait()


@realm.intent("errands.fail")
async def fail(_context: Context, _parameters: Nothing) -> None:
    """Raise an error."""
    raise ValueError("a secret of the realm")


@realm.intent("errands.staff", roles=["staff"])
async def staff(_context: Context, _parameters: Nothing) -> None:
    """Return nothing, to members of the staff only."""
