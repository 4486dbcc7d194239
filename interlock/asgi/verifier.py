"""Answers whose token it is, with the session's state: by introspection, or from a cache that each end of a session empties."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httpx
import msgspec

from interlock.asgi.denials import ANONYMOUS, MISSING, NOT_CURRENT, UNKNOWN, Denied
from interlock.asgi.ends import EndsOfSessions
from interlock.asgi.live_sessions import LiveSessions, Session, Use
from interlock.machine.closing import Close
from interlock.spec.lifecycles import SESSION

_log = logging.getLogger("interlock.asgi")

_ANONYMOUS: Final = next(state.name for state in SESSION.states if state.initial)
_CACHE_SIZE: Final = 10_000
_PREFIX: Final = "ilk_client_"
_BEARER: Final = "Bearer"
_RANDOM: Final = 44
"""The part of a secret after its name: an underscore, and 43 characters."""
_FIRST_WORD_S: Final = 5.0
_TIMEOUT: Final = httpx.Timeout(5)
_ASKED_AT_ONCE: Final = 64
"""How many tokens are asked about at once. Anybody can make some up; more are refused until there is an answer."""


class _Claims(msgspec.Struct, frozen=True):
    sid: str


class _Introspection(msgspec.Struct, frozen=True):
    active: bool
    token_type: str = ""
    sid: str = ""
    sub: str = ""
    session_state: str = ""
    exp: int = 0


class Verifier:
    """Sessions of the server at ``url``, for one process. It works from :meth:`start` on."""

    def __init__(  # keyword arguments of the middleware
        self, url: str, *, client: str, subscriber: str, allow_anonymous: bool, stale_after_s: float, cache_s: float
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT)
        self._auth = httpx.BasicAuth(client_name(client), client)
        self._allow_anonymous = allow_anonymous
        self._sessions = LiveSessions(
            stale_after_ms=round(stale_after_s * 1000), cache_ms=round(cache_s * 1000), cache_size=_CACHE_SIZE
        )
        self._asked = 0
        self._ends = EndsOfSessions(self._http, subscriber, self._sessions, stale_after_s, _now_ms)
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the ends of sessions, in the running event loop."""
        if self._following is None:
            self._following = asyncio.create_task(self._ends.run())

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._http.aclose()

    async def followed(self) -> None:
        """Wait a few seconds at most until the ends of sessions arrive.

        Raises:
            Denied: they don't, so nobody would close a socket.
        """
        self.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ends.followed.wait(), _FIRST_WORD_S)
        if not self._sessions.following(_now_ms()):
            raise Denied(UNKNOWN)

    async def admit(self, token: str | None, on_end: Callable[[Close], None]) -> tuple[Use, Session]:
        """Return a use of the token's session, and the session. Leave the use when the request or the socket is over.

        Raises:
            Denied: the token is missing or not current, its session has ended or is anonymous, or nobody knows.
        """
        self.start()
        if token is None:
            raise Denied(MISSING)
        # Registered before the check: an end that comes meanwhile finds the use.
        use = self._sessions.register(_claimed_session(token), on_end)
        try:
            return use, await self._session_of(token, use)
        except BaseException:
            self.leave(use)
            raise

    def leave(self, use: Use) -> None:
        """Forget a use."""
        self._sessions.leave(use)

    async def _session_of(self, token: str, use: Use) -> Session:
        session = self._sessions.cached(token, _now_ms(), int(time.time()))
        if session is None:
            session = await self._introspected(token)
            if session.session_id != use.session_id:
                raise Denied(NOT_CURRENT)
            if use.ended is None:
                self._sessions.keep(token, session, _now_ms())
        if use.ended is not None:
            raise Denied(NOT_CURRENT)
        if session.state == _ANONYMOUS and not self._allow_anonymous:
            raise Denied(ANONYMOUS)
        return session

    async def _introspected(self, token: str) -> Session:
        if self._asked >= _ASKED_AT_ONCE:
            raise Denied(UNKNOWN)
        self._asked += 1
        try:
            response = await self._http.post("/oauth/introspect", data={"token": token}, auth=self._auth)
            found = msgspec.json.decode(response.raise_for_status().content, type=_Introspection)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            _log.error("a token can't be introspected: %s", error or type(error).__name__)  # no trace
            raise Denied(UNKNOWN) from None
        finally:
            self._asked -= 1
        if not found.active or found.token_type != _BEARER:
            raise Denied(NOT_CURRENT)
        return Session(found.sid, found.sub, found.session_state, found.exp)


def client_name(secret: str) -> str:
    """Return the name of the client that ``secret`` was made for."""
    return secret.removeprefix(_PREFIX)[:-_RANDOM]


def _claimed_session(token: str) -> str:
    """Return the session that a token names. Whether that is true the introspection says."""
    try:
        claims = token.split(".")[1]
        content = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        return msgspec.json.decode(content, type=_Claims).sid
    except (IndexError, ValueError, RecursionError, binascii.Error, msgspec.MsgspecError):
        raise Denied(NOT_CURRENT) from None


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
