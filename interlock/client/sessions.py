"""Sessions as the application holds them. Only a logged-in one can connect: before a login, there is nothing to call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any, Final, Self, TypeVar

import msgspec

from interlock.client.calls import Calls
from interlock.client.connection import Connection
from interlock.client.errors import Refused
from interlock.client.shell import Shell
from interlock.client.words import End, LoggedOut, Tokens
from interlock.machine.closing import Recovery
from interlock.machine.session.view import SessionView
from interlock.spec.lifecycles import SESSION

T = TypeVar("T")

_ANONYMOUS: Final = next(state.name for state in SESSION.states if state.initial)


class Account(msgspec.Struct, frozen=True):
    """An account as its owner sees it."""

    subject: str
    email: str | None
    created_at: str
    groups: list[str] = []


class _Ended(msgspec.Struct, frozen=True):
    ended: int


class _Session:
    """What every session can do."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def session_id(self) -> str:
        """The session's id. It is no credential."""
        return self._shell.core.tokens.session_id

    @property
    def ended(self) -> asyncio.Future[End]:
        """Await it for the reason why the session has ended."""
        return asyncio.shield(self._shell.ended)

    async def access_token(self) -> str:
        """Return an access token that has not expired, for calls to other back ends. Ask for it at each call.

        Raises:
            SessionOver, NetworkFailed, ServerFailed: there is none.
        """
        return await self._shell.authorised(_given)

    async def session(self) -> SessionView:
        """Return the session's current state. Raises what every call raises: see :mod:`interlock.client.errors`."""
        return await self._call("GET", "/api/session", SessionView)

    async def logout(self) -> None:
        """End the session, and wipe what this object holds.

        Raises:
            NetworkFailed, ServerFailed: it is not known to have ended; call it again.
            Refused: the server takes no logout now.
        """
        if self._shell.ended.done():
            return
        tokens = self._shell.core.tokens
        body = {"refresh_token": tokens.refresh_token}
        try:
            await self._shell.calls.call("POST", "/api/auth/logout", NoneType, tokens.access_token, body)
        except Refused as refused:
            if refused.problem.recovery not in {Recovery.LOG_IN, Recovery.START_SESSION}:
                raise
        self._shell.feed(LoggedOut())

    async def close(self) -> None:
        """Stop refreshing and connecting. The session goes on at the server."""
        await self._shell.close()

    async def _call(self, method: str, path: str, answer: type[T], body: dict[str, Any] | None = None) -> T:
        return await self._shell.authorised(partial(self._shell.calls.call, method, path, answer, body=body))


class LoggedInSession(_Session):
    """A session of an account."""

    def connect(self) -> Connection:
        """Return the session's connection. It opens when it is entered: ``async with session.connect() as connection``."""
        return Connection(self._shell)

    async def account(self) -> Account:
        """Return the session's account."""
        return await self._call("GET", "/api/account", Account)

    async def sessions(self) -> list[SessionView]:
        """Return all live sessions of the account, newest first."""
        return await self._shell.authorised(partial(self._shell.calls.pages, "/api/sessions", SessionView))

    async def end_session(self, session_id: str) -> None:
        """End a session of the account."""
        await self._call("DELETE", f"/api/sessions/{session_id}", NoneType)

    async def end_other_sessions(self) -> int:
        """End all other sessions of the account, and return their number. Needs a recent login."""
        return (await self._call("DELETE", "/api/sessions", _Ended)).ended

    async def login(self, email: str, password: str) -> None:
        """Log in again, for what needs a recent login."""
        await self._shell.replace_tokens("/api/auth/login", {"email": email, "password": password})

    async def change_password(self, current: str, new: str) -> None:
        """Change the password. It ends every other session of the account."""
        await self._shell.replace_tokens("/api/auth/password", {"current_password": current, "new_password": new})


class AnonymousSession(_Session):
    """A session before a login. A login makes it the account's, under the same id."""

    async def login(self, email: str, password: str) -> LoggedInSession:
        """Log in. This object is used up: go on with what is returned."""
        return await self._upgrade("/api/auth/login", {"email": email, "password": password})

    async def exchange(self, id_token: str, nonce: str | None = None) -> LoggedInSession:
        """Log in with the ID token of an identity provider."""
        return await self._upgrade("/api/auth/exchange", {"id_token": id_token, "nonce": nonce})

    async def _upgrade(self, path: str, body: dict[str, Any]) -> LoggedInSession:
        await self._shell.replace_tokens(path, body)
        return LoggedInSession(self._shell)


class Client:
    """The way to sessions of the server at ``url``. ``keep`` is called with each new refresh token, before it is needed.

    A program that goes on with its session after a restart stores the newest one there, and begins with :meth:`resume`.
    """

    def __init__(self, url: str, *, keep: Callable[[str], None] | None = None) -> None:
        self._calls = Calls(url)
        self._keep = keep or (lambda _: None)
        self._shells: list[Shell] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all sessions of this client, without a logout."""
        await asyncio.gather(*(shell.close() for shell in self._shells))
        await self._calls.close()

    async def register(self, email: str, password: str) -> Account:
        """Create an account. This does not log in."""
        body = {"email": email, "password": password}
        return await self._calls.call("POST", "/api/auth/register", Account, body=body)

    async def login(self, email: str, password: str) -> LoggedInSession:
        """Log in on a new session."""
        return LoggedInSession(await self._started("/api/auth/login", {"email": email, "password": password}))

    async def exchange(self, id_token: str, nonce: str | None = None) -> LoggedInSession:
        """Log in on a new session with the ID token of an identity provider."""
        return LoggedInSession(await self._started("/api/auth/exchange", {"id_token": id_token, "nonce": nonce}))

    async def begin(self) -> AnonymousSession:
        """Create an anonymous session."""
        return AnonymousSession(await self._started("/api/session", None))

    async def resume(self, refresh_token: str) -> AnonymousSession | LoggedInSession:
        """Continue a session with the newest refresh token that was kept of it.

        Raises:
            Refused: the session has ended.
        """
        shell = await self._started("/api/auth/refresh", {"refresh_token": refresh_token})
        return AnonymousSession(shell) if shell.core.tokens.state == _ANONYMOUS else LoggedInSession(shell)

    async def _started(self, path: str, body: dict[str, Any] | None) -> Shell:
        tokens = await self._calls.call("POST", path, Tokens, body=body)
        shell = Shell(self._calls, tokens, self._keep)
        self._shells.append(shell)
        return shell


async def _given(token: str) -> str:
    return token
