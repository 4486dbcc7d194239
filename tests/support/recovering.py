"""A client that replaces broken connections as the table of close codes says, and resumes, until it knows every outcome."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import uuid4

import httpx
import websockets

from interlock.machine.closing import CLOSE_CODES, ClientAction
from tests.support.client import Client
from tests.support.following import STREAM, Follower
from tests.support.intents import ENDED, execution_of

_BROKEN: Final = 1006
_NEXT: Final = {row.code: row.next for row in CLOSE_CODES.values()} | {_BROKEN: ClientAction.RECONNECT}
_UNAVAILABLE: Final = 503
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8)
"""The bounds of the pauses before a connection, by the number of failures before: shorter than those of the page."""


class Recovering(Follower):
    """A follower of one session that submits intents, and recovers by itself as docs/how-to/write-a-client.md says.

    ``executions`` and ``outcomes`` are what it knows, by intent id: also of the intents of the session's other clients.
    ``closes`` counts the close codes of its connections, ``fetched`` the outcomes that it read over HTTP after a gap, and
    ``repeats`` the intents that it sent again.
    """

    def __init__(self, client: Client, **arguments: Any) -> None:
        super().__init__()
        self.executions: dict[str, str] = {}
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.closes: Counter[int] = Counter()
        self.fetched = 0
        self.repeats = 0
        self._client = client
        self._arguments = arguments
        self._intents: dict[str, dict[str, Any]] = {}
        self._sent: set[str] = set()
        self._unsure: set[str] = set()
        self._ready = False

    @property
    def waiting(self) -> set[str]:
        """The intents that it has submitted and whose outcome it does not know."""
        return self._intents.keys() - self.outcomes.keys()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Recovering]:
        """Keep a connection until the context ends."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self.keep())
            yield self
            keeping.cancel()

    async def keep(self) -> int:
        """Keep a connection until a close code says not to come back. Return that code."""
        tries = 0
        while True:
            code = await self._connection()
            self.closes[code] += 1
            tries = 0 if self._ready else tries + 1
            match _NEXT[code]:
                case ClientAction.RECONNECT:
                    longest = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
                    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # a pause, not a secret
                case ClientAction.REFRESH:
                    (await self._client.refresh()).raise_for_status()
                case _:
                    return code

    async def want(self, name: str, intent_id: str | None = None, **parameters: Any) -> str:
        """Submit an intent, and again after each broken connection until it is answered. Return its id."""
        intent_id = intent_id or str(uuid4())
        self._intents[intent_id] = {"type": "intent", "id": intent_id, "name": name, "parameters": parameters}
        if self._ready:
            with suppress(websockets.ConnectionClosed):
                await self._submit(intent_id)
        return intent_id

    async def _submit(self, intent_id: str) -> None:
        self.repeats += intent_id in self._sent
        self._sent.add(intent_id)
        await self.send(self._intents[intent_id])

    async def _connection(self) -> int:
        """Hold one connection to its end. Return its close code."""
        self._ready = False
        try:
            async with self._client.connect(**self._arguments) as socket:
                self.socket, self._awaits_answer = socket, bool(self.place)
                if self.place:
                    await self.send({"type": "resume", **self.place})
                async for text in socket:
                    await self._take(json.loads(text))
        except websockets.InvalidStatus as refused:
            return _away(refused.response.status_code)
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else _BROKEN
        except httpx.HTTPStatusError as refused:
            return _away(refused.response.status_code)
        except (OSError, httpx.TransportError, websockets.InvalidHandshake):
            return _BROKEN
        return socket.close_code or _BROKEN

    async def _take(self, message: dict[str, Any]) -> None:
        kind, awaited_answer = message["type"], self._awaits_answer
        if kind in STREAM and awaited_answer:
            # The resume arrived late: it comes again.
            return
        self._hear(message)
        if kind == "accepted":
            self._identify(message["intent_id"], message)
        elif kind == "outcome":
            self._learn(message["intent_id"], message)
        elif kind == "refused":
            assert message["problem"]["status"] == _UNAVAILABLE, message
        elif kind == "gap":
            self._unsure |= self.executions.keys() - self.outcomes.keys()
        self._changed.set()
        if kind in {"resumed", "gap"} or (kind == "hello" and not awaited_answer):
            await self._settle()

    async def _settle(self) -> None:
        """Read what a gap left open, and send what has no answer."""
        self._ready = True
        for intent_id in list(self._unsure):
            execution = await execution_of(self._client, self.executions[intent_id])
            if execution["state"] in ENDED:
                self.fetched += intent_id not in self.outcomes
                self._learn(intent_id, execution)
                self._changed.set()
            elif intent_id in self._intents:
                # Its outcome is heard here only then, if another session was the first to submit it.
                await self._submit(intent_id)
            self._unsure.discard(intent_id)
        for intent_id in self._intents.keys() - self.executions.keys():
            await self._submit(intent_id)

    def _identify(self, intent_id: str, message: dict[str, Any]) -> None:
        known = self.executions.setdefault(intent_id, message["execution_id"])
        assert known == message["execution_id"], "one intent is two executions"

    def _learn(self, intent_id: str, message: dict[str, Any]) -> None:
        self._identify(intent_id, message)
        outcome = what_ended(message)
        assert self.outcomes.setdefault(intent_id, outcome) == outcome, "an execution has two outcomes"


def what_ended(shown: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome in a message or a response: what every client must learn alike."""
    return {name: shown.get(name) for name in ("execution_id", "state", "reason", "result", "error", "receipt")}


def _away(status: int) -> int:
    """Treat a response of a server that stops as a broken connection."""
    assert status == _UNAVAILABLE
    return _BROKEN
