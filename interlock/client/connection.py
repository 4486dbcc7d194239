"""A connection as the application holds it, and the intents that it has submitted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, cast
from uuid import uuid4

import msgspec

from interlock.client.errors import ConnectionStopped, Refused, SessionOver
from interlock.client.shell import Shell
from interlock.client.words import (
    CancelAsked,
    Connected,
    ConnectionWanted,
    Disconnected,
    IntentAccepted,
    IntentEnded,
    IntentProgress,
    IntentRefused,
    IntentSubmitted,
    Output,
    SessionEnded,
    Stopped,
    Transition,
)
from interlock.context import Outcome, OutcomeState

T = TypeVar("T")

Event: TypeAlias = Connected | Disconnected | Transition

_KEPT: Final = 1024
"""Values of progress and events that wait for a reader, at most; then the oldest are dropped."""


class _Feed(Generic[T]):
    """Items for one reader, the newest ones of them if it is slow."""

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=_KEPT)
        self._ended = False
        self._news = asyncio.Event()

    def put(self, item: T) -> None:
        """Add an item."""
        self._items.append(item)
        self._news.set()

    def end(self) -> None:
        """Say that nothing follows."""
        self._ended = True
        self._news.set()

    async def items(self) -> AsyncIterator[T]:
        """Yield the items until the end."""
        while True:
            while self._items:
                yield self._items.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


class Progress(msgspec.Struct, frozen=True):
    """A value that an execution has emitted. A higher ``attempt`` than before: discard the values of the earlier one."""

    attempt: int
    value: Any


class Run:
    """One intent. Await it for its outcome; iterate over it for its progress. Giving up waiting does not cancel it."""

    def __init__(self, shell: Shell, intent_id: str) -> None:
        self.intent_id = intent_id
        self._shell = shell
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[str] = loop.create_future()
        self._outcome: asyncio.Future[Outcome] = loop.create_future()
        self._progress = _Feed[Progress]()

    def __await__(self) -> Generator[Any, None, Outcome]:
        return asyncio.shield(self._outcome).__await__()

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self._progress.items()

    async def accepted(self) -> str:
        """Wait until the intent is recorded, and return the id of its execution. Raises what awaiting it raises."""
        return await asyncio.shield(self._accepted)

    def cancel(self) -> None:
        """Ask the server to stop it. The outcome says whether that came in time."""
        self._shell.feed(CancelAsked(self.intent_id))

    def tell(self, told: IntentAccepted | IntentProgress | IntentEnded | IntentRefused) -> None:
        """Take what has become of it."""
        match told:
            case IntentAccepted():
                self._accepted.set_result(told.execution_id)
            case IntentProgress():
                self._progress.put(Progress(told.attempt, told.value))
            case IntentEnded():
                # The connection may have missed that it was accepted.
                self._accepted.cancel()
                state = cast("OutcomeState", told.state)
                self._outcome.set_result(Outcome(state=state, result=told.result, reason=told.reason, error=told.error))
                self._progress.end()
            case IntentRefused():
                self.fail(Refused(told.problem))

    def fail(self, error: Exception) -> None:
        """Give it up."""
        for waited in (self._accepted, self._outcome):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()  # whether anybody awaits it or not
        self._progress.end()


class Connection:
    """The connection of a logged-in session: entered, it is open, and reconnects by itself until it is left."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._runs: dict[str, Run] = {}
        self._readers: list[_Feed[Event]] = []
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over: Exception | None = None

    async def __aenter__(self) -> Self:
        """Connect. With an unreachable server, this waits: give it a time limit.

        Raises:
            SessionOver: the session has ended.
            ConnectionStopped: the server has closed it for a reason that reconnecting does not help.
        """
        if self._shell.core.end is not None:
            raise SessionOver(self._shell.core.end)
        self._shell.told = self._tell
        self._shell.feed(ConnectionWanted(wanted=True))
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect. Intents without an outcome raise :class:`ConnectionStopped`; they go on at the server."""
        await self._leave()

    def intent(self, name: str, parameters: Any, *, intent_id: str | None = None) -> Run:
        """Submit the intent ``name``, now or as soon as the connection is back. Without an id it gets a random one.

        Raises:
            ConnectionStopped, SessionOver: there will be no connection.
            ValueError: an intent with this id has no outcome yet.
        """
        if self._over is not None:
            raise self._over
        run = Run(self._shell, intent_id or str(uuid4()))
        if run.intent_id in self._runs:
            raise ValueError(f"the intent {run.intent_id} is under way")
        self._runs[run.intent_id] = run
        self._shell.feed(IntentSubmitted(run.intent_id, name, parameters))
        return run

    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens to the connection and to the session, until the connection is over."""
        reader = _Feed[Event]()
        if self._over is not None:
            return
        self._readers.append(reader)
        try:
            async for event in reader.items():
                yield event
        finally:
            self._readers.remove(reader)

    async def _leave(self) -> None:
        self._stop(ConnectionStopped(1000, "left"))
        self._shell.feed(ConnectionWanted(wanted=False))
        await self._shell.disconnected()

    def _tell(self, told: Output) -> None:
        match told:
            case IntentAccepted() | IntentProgress():
                self._runs[told.intent_id].tell(told)
            case IntentEnded() | IntentRefused():
                self._runs.pop(told.intent_id).tell(told)
            case Stopped(code, reason):
                self._stop(ConnectionStopped(code, reason))
            case SessionEnded(end):
                self._stop(SessionOver(end))
            case Connected() | Disconnected() | Transition():
                if isinstance(told, Connected) and not self._opened.done():
                    self._opened.set_result(None)
                for reader in self._readers:
                    reader.put(told)

    def _stop(self, error: Exception) -> None:
        if self._over is not None:
            return
        self._over = error
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # whether anybody awaits it or not
        for run in self._runs.values():
            run.fail(error)
        self._runs.clear()
        for reader in self._readers:
            reader.end()
