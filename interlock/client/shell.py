"""Runs a :class:`Core`: gives it what arrives and the time, and does what it says, with httpx and websockets."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from interlock.client.calls import Calls, failed, failure_of
from interlock.client.core import Core
from interlock.client.errors import Refused, SessionOver, Unavailable
from interlock.client.words import (
    CallRefused,
    CloseSocket,
    End,
    Failure,
    HandshakeFailed,
    Input,
    KeepTokens,
    OpenSocket,
    Output,
    Refresh,
    RefreshAnswered,
    Send,
    SessionEnded,
    SocketClosed,
    SocketOpened,
    TextReceived,
    Tick,
    Tokens,
    TokensArrived,
)
from interlock.machine.closing import Recovery
from interlock.machine.session.messages import SUBPROTOCOL

T = TypeVar("T")

_LONGEST_SLEEP_S: Final = 30.0
"""Timers stand still while a laptop sleeps: look at the clock this often."""
_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_CLOSE_TIMEOUT_S: Final = 3
_ABNORMAL: Final = 1006


class Shell:
    """One session. ``told`` receives each output that is for the application; ``keep`` each new refresh token."""

    def __init__(self, calls: Calls, tokens: Tokens, keep: Callable[[str], None]) -> None:
        self.calls = calls
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.told: Callable[[Output], None] = lambda _: None
        self._keep = keep
        self._core = Core(tokens, _now_ms(), random.random())  # noqa: S311  # jitter
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        # A refresh with tokens that a login replaces meanwhile would be refused.
        self._token_calls = asyncio.Lock()
        self._socket: asyncio.Task[None] | None = None
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self.feed(Tick())

    @property
    def core(self) -> Core:
        """The rules and what they hold."""
        return self._core

    def feed(self, given: Input) -> None:
        """Give the core an input, and do what it says."""
        if self._closed:
            return
        for output in self._core.step(given, _now_ms(), random.random()):  # noqa: S311  # jitter
            self._do(output)
        if self._core.end is not None or not self._core.stale(_now_ms()):
            self._wake_callers(None)
        self._set_timer()

    async def close(self) -> None:
        """Stop everything. The session goes on at the server."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def disconnected(self) -> None:
        """Wait until the socket that was closed is closed."""
        await asyncio.gather(*(task for task in self._tasks if task.get_name() == "socket"), return_exceptions=True)

    async def authorised(self, call: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """Make a ``call`` with the access token; once more with a new one if it had expired.

        Raises:
            Refused, NetworkFailed, ServerFailed: as ``call``.
            SessionOver: the session has ended, perhaps while the call was under way.
        """
        repeated = False
        while True:
            token = await self._fresh_token()
            try:
                answer = await call(token)
            except Refused as refused:
                self.feed(CallRefused(token, refused.problem))
                self._ensure_alive()
                if repeated or refused.problem.recovery is not Recovery.REFRESH:
                    raise
                repeated = True
                continue
            self._ensure_alive()
            return answer

    async def replace_tokens(self, path: str, body: dict[str, Any]) -> None:
        """Make a call whose answer has new tokens. Raises what :meth:`authorised` raises."""

        async def call(token: str) -> Tokens:
            async with self._token_calls:
                return await self.calls.call("POST", path, Tokens, token, body)

        self.feed(TokensArrived(await self.authorised(call)))

    def _ensure_alive(self) -> None:
        if self._core.end is not None:
            raise SessionOver(self._core.end)

    async def _fresh_token(self) -> str:
        self._ensure_alive()
        if self._core.stale(_now_ms()):
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            self.feed(Tick())
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
            self._ensure_alive()
        return self._core.tokens.access_token

    def _wake_callers(self, error: Exception | None) -> None:
        for waiting in self._waiting:
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(error)

    def _do(self, output: Output) -> None:
        match output:
            case KeepTokens(tokens):
                self._keep(tokens.refresh_token)
            case Refresh():
                self._start(self._refresh(output))
            case OpenSocket(access_token):
                self._frames = asyncio.Queue()
                self._socket = self._start(self._hold_socket(access_token, self._frames), "socket")
            case Send(text):
                self._frames.put_nowait(text)
            case CloseSocket():
                if self._socket is not None and self._socket is not asyncio.current_task():
                    self._socket.cancel()
                self._socket = None
            case _:
                self.told(output)
                if isinstance(output, SessionEnded) and not self.ended.done():
                    self.ended.set_result(output.end)

    def _start(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_ms = self._core.next_wake_ms()
        if at_ms is not None:
            delay_s = min(_LONGEST_SLEEP_S, max(0, at_ms - _now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.feed, Tick())

    async def _refresh(self, asked: Refresh) -> None:
        answer: Tokens | Failure
        async with self._token_calls:
            if asked.generation != self._core.generation:
                return
            try:
                body = {"refresh_token": asked.refresh_token}
                answer = await self.calls.call("POST", "/api/auth/refresh", Tokens, body=body)
            except (Refused, Unavailable) as error:
                answer = failure_of(error)
                if isinstance(error, Unavailable) and asked.generation == self._core.generation:
                    self._wake_callers(error)
        self.feed(RefreshAnswered(asked.generation, answer))

    async def _hold_socket(self, token: str, frames: asyncio.Queue[str]) -> None:
        """Open a socket, and hand on what it receives until it is closed."""
        try:
            closed = await self._converse(token, frames)
        except websockets.InvalidStatus as refused:
            response = refused.response
            error = failed(response.status_code, _lower(response.headers), bytes(response.body or b""))
            closed = HandshakeFailed(failure_of(error))
        except (OSError, websockets.InvalidHandshake):
            closed = HandshakeFailed(Failure())
        if self._socket is asyncio.current_task():
            self.feed(closed)

    async def _converse(self, token: str, frames: asyncio.Queue[str]) -> Input:
        url = self.calls.url.replace("http", "ws", 1) + "/api/connect"
        handshake = connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            max_size=_MESSAGE_BYTES,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        async with AsyncExitStack() as stack:
            socket = await stack.enter_async_context(handshake)
            self.feed(SocketOpened())
            sending = asyncio.create_task(_send_all(socket, frames))
            stack.callback(sending.cancel)
            try:
                async for text in socket:
                    if self._socket is not asyncio.current_task():
                        break
                    self.feed(TextReceived(str(text)))
            except websockets.ConnectionClosedError:
                pass
        return SocketClosed(socket.close_code or _ABNORMAL, socket.close_reason or "")


async def _send_all(socket: ClientConnection, frames: asyncio.Queue[str]) -> None:
    try:
        while True:
            await socket.send(await frames.get())
    except websockets.ConnectionClosed:
        pass  # the receiver says how


def _lower(headers: websockets.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.raw_items()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
