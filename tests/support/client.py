"""A client: httpx and websockets. Each answer is checked against the OpenAPI document."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from typing import Any, Self

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.support.documented import check_answer

PASSWORD = "correct horse battery staple"

# A connection expires here before a server may close it under a request (`keep_alive_s`, 75 seconds unless a test changes
# it).
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=2)

_numbers = itertools.count(1)


def new_email() -> str:
    """Return an email address that is new in this test run."""
    return f"user{next(_numbers)}@example.org"


class Client:
    """One user agent: an httpx client, and its latest tokens."""

    def __init__(self, url: str, http: httpx.AsyncClient | None = None) -> None:
        self.url = url
        self.http = http or httpx.AsyncClient(
            base_url=url, timeout=60, limits=_LIMITS, event_hooks={"response": [check_answer]}
        )
        self.tokens: dict[str, Any] = {}
        self.email = ""

    def sibling(self) -> Client:
        """Return another user agent, without tokens, over the same connections."""
        return Client(self.url, self.http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    @property
    def session_id(self) -> str:
        return str(self.tokens["session_id"])

    @property
    def access_token(self) -> str:
        return str(self.tokens["access_token"])

    @property
    def refresh_token(self) -> str:
        return str(self.tokens["refresh_token"])

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"} if self.tokens else {}

    async def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request with the current access token, if there is one."""
        headers = {**self.bearer, **arguments.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **arguments)

    async def begin(self) -> httpx.Response:
        """Create an anonymous session and keep its tokens."""
        return self._keep(await self.http.post("/api/session"))

    async def register(self, email: str, password: str = PASSWORD) -> httpx.Response:
        return await self.http.post("/api/auth/register", json={"email": email, "password": password})

    async def log_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        """Log in, on the current session if there is one, and keep the tokens."""
        self.email = email
        return self._keep(await self.request("POST", "/api/auth/login", json={"email": email, "password": password}))

    async def refresh(self, token: str | None = None) -> httpx.Response:
        """Exchange the refresh token (or ``token``) and keep the answer."""
        body = {"refresh_token": token or self.refresh_token}
        return self._keep(await self.http.post("/api/auth/refresh", json=body))

    async def session(self) -> dict[str, Any]:
        """Get the session from the server."""
        answer = await self.request("GET", "/api/session")
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def connect(self, **arguments: Any) -> connect:
        """Open the WebSocket with the access token as bearer (or with ``additional_headers``).

        Its receive queue is unlimited, so that a client is slow only if a test wants it.
        """
        arguments.setdefault("max_queue", None)
        arguments.setdefault("open_timeout", 30)
        arguments.setdefault("additional_headers", self.bearer)
        arguments.setdefault("subprotocols", ["interlock.v1"])
        arguments.setdefault("compression", None)
        # Otherwise each connection searches the environment for a proxy.
        arguments.setdefault("proxy", None)
        return connect(self.url.replace("http://", "ws://") + "/api/connect", **arguments)

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            self.tokens = answer.json()
        return answer


async def logged_in(url: str, http: httpx.AsyncClient | None = None) -> Client:
    """Return a client logged in to a new account."""
    client = Client(url, http)
    email = new_email()
    (await client.register(email)).raise_for_status()
    (await client.log_in(email)).raise_for_status()
    return client


async def hello(socket: ClientConnection) -> dict[str, Any]:
    """Read the server's first message."""
    message: dict[str, Any] = json.loads(await socket.recv())
    assert message["type"] == "hello"
    return message


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Read until the server closes. Return its close code and reason."""
    await rest_of(socket)
    return (1006, "") if socket.close_code is None else (socket.close_code, socket.close_reason or "")


async def rest_of(socket: ClientConnection) -> list[dict[str, Any]]:
    """Return every message up to the close."""
    messages = []
    with suppress(websockets.ConnectionClosed):
        while True:
            messages.append(json.loads(await socket.recv()))
    return messages
