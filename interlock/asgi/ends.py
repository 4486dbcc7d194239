"""Follows the ends of sessions: Server-Sent Events over one request, continued at the last position when it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx
import msgspec

from interlock.asgi.live_sessions import LiveSessions
from interlock.machine.events.messages import EventMessage
from interlock.machine.session.machine import SESSION_MACHINE

_log = logging.getLogger("interlock.asgi")

_PATH: Final = "/api/events/stream"
_MEDIA_TYPE: Final = "text/event-stream"
_CONNECT_S: Final = 10
_RETRY_S: Final = 2.0
_LOOK_S: Final = 0.5


class EndsOfSessions:
    """The stream of one process. ``followed`` is set once ends of sessions arrive."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        secret: str,
        sessions: LiveSessions,
        stale_after_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self.followed = asyncio.Event()
        self._http = http
        self._secret = secret
        self._sessions = sessions
        self._now_ms = now_ms
        # A stream without two of its heartbeats is broken: there is time to try another before everything ends.
        self._timeout = httpx.Timeout(_CONNECT_S, read=stale_after_s / 2)
        self._last: str | None = None

    async def run(self) -> None:
        """Follow for ever, and end what is in use when the server has been silent for too long."""
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                try:
                    await self._follow()
                except httpx.HTTPStatusError as error:
                    self._refused(error.response)
                except httpx.RequestError as error:
                    _log.warning("the ends of sessions don't arrive: %s", error or type(error).__name__)
                self._sessions.distrust()
                self.followed.clear()
                await asyncio.sleep(random.uniform(0, _RETRY_S))  # noqa: S311  # jitter
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._sessions.end_stale(self._now_ms())

    async def _follow(self) -> None:
        headers = {"authorization": f"Bearer {self._secret}"}
        if self._last is not None:
            headers["last-event-id"] = self._last
        async with self._http.stream("GET", _PATH, headers=headers, timeout=self._timeout) as stream:
            stream.raise_for_status()
            if not stream.headers.get("content-type", "").startswith(_MEDIA_TYPE):
                # The page of a proxy, say. Read as a stream it would count as the server's word.
                raise httpx.RemoteProtocolError("the answer is no stream of events")
            async for fields in _messages(stream):
                self._sessions.hear(self._now_ms())
                if "event" in fields:
                    return
                if "data" in fields:
                    self._take(fields["data"])
                self._last = fields.get("id", self._last)
                self.followed.set()

    def _take(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=EventMessage)
        except msgspec.MsgspecError as error:
            _log.error("an event can't be read, and may be an end: %s", error)  # no trace
            self._sessions.distrust()
            self._sessions.end_all()
            return
        about = message.data
        if about.kind == SESSION_MACHINE.kind and about.state in SESSION_MACHINE.final:
            self._sessions.end(about.instance_id, about.reason or about.event)

    def _refused(self, response: httpx.Response) -> None:
        _log.error("the ends of sessions don't arrive: the server answers with status %d", response.status_code)
        if response.status_code == httpx.codes.BAD_REQUEST and self._last is not None:
            # The log was restored to an earlier time: nobody knows what has ended since.
            self._last = None
            self._sessions.end_all()


async def _messages(stream: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """Yield the fields of each message that has arrived whole."""
    fields: dict[str, str] = {}
    async for line in stream.aiter_lines():
        if not line:
            yield fields
            fields = {}
            continue
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
