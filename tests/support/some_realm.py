"""A realm for servers in tests: ``some_realm.echo`` returns its text; other texts make it do what they say."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from interlock import Context, IntentFailed, Realm
from tests.support.runtime import Text

realm = Realm("some_realm")


async def block() -> None:
    time.sleep(0.15)  # noqa: ASYNC251  # as careless code does


@realm.intent("some_realm.echo", timeout_s=600)
async def echo(context: Context, parameters: Text) -> Text:
    """Return the text."""
    match parameters.text:
        case "fail":
            raise IntentFailed("it can't be done")
        case text if text.startswith("explode"):
            raise ValueError(f"password=secret {text}")
        case "block" | "block in a task" as text:
            await (block() if text == "block" else asyncio.create_task(block()))
        case "log":
            logging.getLogger("some_realm").info("not this")
            logging.getLogger("some_realm").warning("execution %s says so", context.execution_id)
        case "hang":
            await asyncio.Event().wait()
        case "go on":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return parameters
        case text if text.startswith("until "):
            while not Path(text.removeprefix("until ")).exists():  # noqa: ASYNC110, ASYNC240  # another process makes it
                await asyncio.sleep(0.02)
    await context.emit({"text": parameters.text})
    return parameters
