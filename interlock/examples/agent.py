"""An agent that streams its answer and keeps it as a note: ``interlock serve --demo``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from interlock import Context, Realm

realm = Realm("agent")


class Ask(Struct):
    question: Annotated[str, Meta(min_length=1, max_length=500)]


class Answer(Struct):
    text: str
    note_id: int | None


async def tokens(question: str, known: int) -> AsyncIterator[str]:
    """Yield an answer in pieces. Here a real agent asks its language model."""
    for word in f"You asked: {question} I know {known} notes about it.".split():
        await asyncio.sleep(0.02)
        yield f"{word} "


@realm.intent("agent.ask", effects="once", timeout_s=120)
async def ask(context: Context, parameters: Ask) -> Answer:
    """Answer a question, piece by piece, and keep the answer as a note.

    The model does not answer twice in the same words. So after a crash the agent does not run again: the caller may ask again.
    """
    found = await (await context.submit("notes.find", {"contains": parameters.question})).outcome()
    known = len(found.result["notes"]) if found.state == "succeeded" else 0
    text = ""
    async for token in tokens(parameters.question, known):
        text += token
        await context.emit(token)
    kept = await (await context.submit("notes.create", {"text": text})).outcome()
    return Answer(text, kept.result["note_id"] if kept.state == "succeeded" else None)
