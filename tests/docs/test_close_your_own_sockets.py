"""The guide's two back ends close a session's sockets when it ends, and refuse what ended before."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve

from interlock.server.guard.secrets import Secrets
from interlock.server.outgoing.signatures import new_signing_secret
from tests.docs.pages import ROOT, captioned
from tests.support.admin import Admin, admin_token
from tests.support.client import Client, logged_in
from tests.support.hooks import create_webhook
from tests.support.relay import relay_to
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

_PAGE = "how-to/close-your-own-sockets.md"
_JAVASCRIPT = ROOT / "tests" / "javascript"


@asynccontextmanager
async def back_end(command: list[str], url: str, environment: dict[str, str], port: int = 0) -> AsyncIterator[int]:
    """Run one of the page's programs over the server at ``url``, and yield its port once it listens."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "INTERLOCK": url, "PORT": str(port), **environment},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("listening on "), line
        yield int(line.rpartition(" ")[2])
    finally:
        process.kill()
        await process.wait()


def python_secrets(server: ServerProcess) -> dict[str, str]:
    """Create the secrets of the page's Python program, as its environment."""
    keys = server.data / "keys"
    return {
        "SUBSCRIBER": Secrets(keys, "subscriber").create("chat", 1, ("session-ends",)),
        "CLIENT": Secrets(keys, "client").create("chat", 1),
    }


async def opened(port: int, client: Client) -> ClientConnection:
    """Open a socket of the back end with the client's token."""
    socket = await connect(f"ws://127.0.0.1:{port}/", open_timeout=30)
    await socket.send(json.dumps({"access_token": client.access_token}))
    return socket


async def ended(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the back end closes the socket."""
    try:
        async with asyncio.timeout(60):
            while True:
                await socket.recv()
    except ConnectionClosed:
        return socket.close_code, socket.close_reason


async def works(server: ServerProcess, port: int) -> None:
    """Check the back end at ``port``: sockets of one session close at its end, and those of others stay."""
    async with await logged_in(server.url) as ada, await logged_in(server.url) as bob:
        sockets = [await opened(port, ada), await opened(port, ada)]
        other = await opened(port, bob)
        for socket, client in ((sockets[0], ada), (sockets[1], ada), (other, bob)):
            hello: dict[str, Any] = json.loads(await socket.recv())
            assert hello == {"hello": (await client.session())["subject"]}
        token = dict(ada.tokens)
        (await ada.request("POST", "/api/auth/logout")).raise_for_status()
        for socket in sockets:
            assert await ended(socket) == (1008, "session ended")
        ada.tokens = token
        assert await ended(await opened(port, ada)) == (1008, "session ended"), "what ended before is refused"
        await other.send("still here")
        assert await other.recv() == "still here"
        async with Admin(server.url, admin_token(server.data, "chief")) as admin:
            (await admin.http.delete(f"/sessions/{bob.session_id}")).raise_for_status()
        assert await ended(other) == (1008, "session ended"), "whoever ends it"


@scenario()
async def test_the_python_back_end_closes_its_sockets(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(captioned(_PAGE, "chat.py"))
    with running_server(tmp_path / "data") as server:
        async with back_end([sys.executable, str(tmp_path / "chat.py")], server.url, python_secrets(server)) as port:
            await works(server, port)
            async with await logged_in(server.url) as ada:
                socket = await opened(port, ada)
                assert "hello" in json.loads(await socket.recv())
                # The server is away, and comes back: what ended meanwhile is not missed.
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                (await ada.request("POST", "/api/auth/logout")).raise_for_status()
                assert await ended(socket) == (1008, "session ended")


@pytest.mark.parametrize("broken", ["before its first event", "within an event"])
@scenario()
async def test_the_python_back_end_misses_nothing_while_its_stream_breaks(tmp_path: Path, broken: str) -> None:
    (tmp_path / "chat.py").write_text(captioned(_PAGE, "chat.py"))
    with running_server(tmp_path / "data") as server:
        secrets = python_secrets(server)
        async with (
            relay_to(server.url) as relay,
            back_end([sys.executable, str(tmp_path / "chat.py")], relay.url, secrets) as port,
            await logged_in(server.url) as ada,
        ):
            socket = await opened(port, ada)
            assert "hello" in json.loads(await socket.recv())
            if broken == "within an event":
                relay.cut_behind(b"\r\ndata: ")
            else:
                relay.freeze()
                relay.cut()
            (await ada.request("POST", "/api/auth/logout")).raise_for_status()
            relay.thaw()
            assert await ended(socket) == (1008, "session ended")


@scenario()
async def test_the_python_back_end_keeps_nothing_of_sessions_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(tmp_path / "data") as server:
        for name, value in {"INTERLOCK": server.url, **python_secrets(server)}.items():
            monkeypatch.setenv(name, value)
        chat = ModuleType("chat")
        exec(captioned(_PAGE, "chat.py"), chat.__dict__)  # noqa: S102  # the page's program
        following = asyncio.Event()
        ends = asyncio.create_task(chat.close_when_sessions_end(following))
        await following.wait()
        async with serve(chat.chat, "127.0.0.1", 0) as listening, Client(server.url) as visitor:
            for _ in range(3):
                (await visitor.begin()).raise_for_status()
                (await visitor.request("POST", "/api/auth/logout")).raise_for_status()
            async with await logged_in(server.url) as ada:
                socket = await opened(listening.sockets[0].getsockname()[1], ada)
                (await ada.request("POST", "/api/auth/logout")).raise_for_status()
                assert await ended(socket) == (1008, "session ended")
        await eventually(lambda: not chat.under_way)
        assert chat.sockets == {}
        ends.cancel()


@pytest.mark.slow
@scenario()
async def test_the_node_back_end_closes_its_sockets(tmp_path: Path) -> None:
    # Where its import of ws is found.
    program = _JAVASCRIPT / f"chat-{os.getpid()}.mjs"
    program.write_text(captioned(_PAGE, "chat.mjs"))
    try:
        with running_server(tmp_path / "data", outgoing_networks="127.0.0.0/8") as server:
            port = free_port()
            secrets = {
                "WEBHOOK": create_webhook(server.data, f"http://127.0.0.1:{port}/hooks/interlock", "session-ends"),
                "CLIENT": Secrets(server.data / "keys", "client").create("chat", 1),
            }
            async with Admin(server.url, admin_token(server.data)) as admin:
                await eventually(lambda: admin.get("/webhooks"))
            async with back_end(["node", str(program)], server.url, secrets, port):
                await works(server, port)
                await refuses_forgeries(port, secrets["WEBHOOK"])
    finally:
        program.unlink()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def refuses_forgeries(port: int, secret: str) -> None:
    """Check that the back end takes a message that was signed now, and no other."""
    body = json.dumps({"id": "evt_1", "type": "session.revoke", "data": {"session_id": "none"}}).encode()
    now = datetime.now(UTC)
    async with httpx.AsyncClient() as http:

        async def status(at: datetime, key: str, sent: bytes) -> int:
            headers = {
                "webhook-id": "evt_1",
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(key).sign("evt_1", at, body.decode()),
            }
            answer = await http.post(f"http://127.0.0.1:{port}/hooks/interlock", content=sent, headers=headers)
            return answer.status_code

        assert await status(now, secret, body) == httpx.codes.NO_CONTENT
        assert await status(now, new_signing_secret(), body) == httpx.codes.BAD_REQUEST
        assert await status(now, secret, body + b" ") == httpx.codes.BAD_REQUEST
        assert await status(now - timedelta(minutes=6), secret, body) == httpx.codes.BAD_REQUEST
