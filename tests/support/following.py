"""A client that follows its session's stream over any number of connections, and notes what it hears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.client import Client
from tests.support.running import PATIENCE_S, eventually

STREAM = ("accepted", "progress", "outcome")


class Follower:
    """One client. ``heard`` are the messages of the stream, ``answers`` all others, ``place`` is where it resumes.

    It checks that the offsets of each epoch rise by one, except over a gap.
    """

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.place: dict[str, Any] = {}
        self.gaps = 0
        self.pause_s = 0.0
        """How long it rests after each message."""
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._awaits_answer = False

    @property
    def values(self) -> list[Any]:
        """All values of all executions, in order."""
        return [value for each in self.heard if each["type"] == "progress" for value in each["data"]]

    @property
    def close_code(self) -> int | None:
        assert self.socket is not None
        return self.socket.close_code

    def kinds(self, execution_id: str) -> list[str]:
        """Return the types of the messages about an execution; those of progress count as one."""
        kinds = [each["type"] for each in self.heard if each["execution_id"] == execution_id]
        return [kind for before, kind in zip([None, *kinds], kinds, strict=False) if kind != before]

    async def send(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        await self.socket.send(json.dumps(message))

    async def intent(self, name: str, intent_id: str | None = None, **parameters: Any) -> str:
        """Submit an intent of the realm ``talk``. Return its id."""
        intent_id = intent_id or str(uuid4())
        await self.send({"type": "intent", "id": intent_id, "name": f"talk.{name}", "parameters": parameters})
        return intent_id

    async def accepted(self, name: str, **parameters: Any) -> str:
        """Submit an intent. Return its execution id once it is accepted."""
        intent_id = await self.intent(name, **parameters)
        message = await self.until(lambda: self.of("accepted", intent_id=intent_id))
        return str(message["execution_id"])

    async def answer(self, kind: str) -> dict[str, Any]:
        """Wait for the next message of this type beside the stream, and take it."""
        message = await self.until(lambda: next((each for each in self.answers if each["type"] == kind), None))
        self.answers.remove(message)
        return dict(message)

    async def answered(self) -> None:
        """Wait until the ``resume`` of this connection is answered."""
        await self.until(lambda: not self._awaits_answer)

    async def outcome(self, execution_id: str) -> dict[str, Any]:
        """Wait for the outcome of an execution."""
        return dict(await self.until(lambda: self.of("outcome", execution_id=execution_id)))

    def of(self, kind: str, **wanted: Any) -> dict[str, Any] | None:
        """Return the last message of the stream of this type with these fields."""
        found = [each for each in self.heard if each["type"] == kind and wanted.items() <= each.items()]
        return found[-1] if found else None

    async def until(self, condition: Callable[[], Any], within_s: float = 60) -> Any:
        """Wait until ``condition()`` is true after some message, and return its value."""
        async with asyncio.timeout(min(within_s, PATIENCE_S)):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
            return found

    async def end(self) -> None:
        """Wait until the connection has ended."""
        assert self._reading is not None
        await self._reading

    @asynccontextmanager
    async def connected(self, client: Client, *, resume: bool = False, **arguments: Any) -> AsyncIterator[Follower]:
        """Hold a connection, and those that replace it. ``resume`` continues the stream of the last one."""
        await self._open(client, resume=resume, **arguments)
        try:
            yield self
        finally:
            await self._close()

    async def reconnect(self, client: Client) -> None:
        """Replace the connection, and resume."""
        await self._close()
        await self._open(client, resume=True)

    async def _open(self, client: Client, *, resume: bool, **arguments: Any) -> None:
        self.socket = await client.connect(**arguments)
        self._awaits_answer = resume
        if resume:
            await self.send({"type": "resume", **self.place})
        self._reading = asyncio.create_task(self._read(self.socket))
        await self.answer("hello")

    async def _close(self) -> None:
        assert self.socket is not None
        self.may_read.set()
        await self.socket.close()
        await self.end()

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                self._hear(json.loads(text))
                self._changed.set()
                await asyncio.sleep(self.pause_s)
                await self.may_read.wait()
        except websockets.ConnectionClosed:
            pass

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] in STREAM:
            assert not self._awaits_answer, "the answer to a resume is first"
            assert message["offset"] == self.place["offset"] + 1, (message, self.place)
            self.place = {**self.place, "offset": message["offset"]}
            self.heard.append(message)
            return
        if message["type"] == "hello" and not self._awaits_answer:
            self.place = message["stream"]
        elif message["type"] == "gap":
            self.gaps += 1
            self.place = {"epoch": message["epoch"], "offset": message["offset"]}
            self._awaits_answer = False
        elif message["type"] == "resumed":
            assert self.place == {"epoch": message["epoch"], "offset": message["offset"]}
            self._awaits_answer = False
        self.answers.append(message)


async def disconnects(client: Client, count: int) -> list[int]:
    """Wait until so many connections of the session are recorded as ended. Return their close codes."""

    async def recorded() -> list[int] | None:
        answer = await client.request("GET", "/api/session/transitions")
        ends = [each for each in answer.raise_for_status().json() if each["event"] == "disconnect"]
        return [each["data"]["code"] for each in ends] if len(ends) >= count else None

    codes: list[int] = await eventually(recorded, within_s=120)
    return codes
