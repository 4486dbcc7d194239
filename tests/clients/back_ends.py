"""What every back end with one of the kits does, whatever it is written in: checks that its tests share."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from interlock.server.guard.secrets import Secrets
from tests.support.admin import Admin, admin_token
from tests.support.client import Client, logged_in
from tests.support.running import eventually
from tests.support.server import ServerProcess

_numbers = itertools.count(1)


def secrets(server: ServerProcess) -> dict[str, str]:
    """Create the two secrets of a back end, as its environment."""
    keys, name = server.data / "keys", f"chat-{next(_numbers)}"
    return {
        "SUBSCRIBER": Secrets(keys, "subscriber").create(name, 1, ("session-ends",)),
        "CLIENT": Secrets(keys, "client").create(name, 1),
    }


@asynccontextmanager
async def back_end(
    command: Sequence[str], url: str, server: ServerProcess, port: int | None = None
) -> AsyncIterator[int]:
    """Run a program over the Interlock server that it finds at ``url``, and yield its port once it listens.

    If it does not print its ``port``, name it.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "INTERLOCK": url, **secrets(server)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    seen = ""
    try:
        if port is not None:
            await eventually(partial(_listens, port))
        while port is None:
            line = (await process.stdout.readline()).decode()
            assert line, seen
            seen += line
            if found := re.search(r"(?:listening|running) on (?:\S*:)?(\d+)", line):
                port = int(found[1])
        yield port
    finally:
        process.kill()
        await process.communicate()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


async def opened(port: int, token: str) -> ClientConnection:
    """Open a socket of the back end as a page does, with the token among the subprotocols."""
    protocols = [Subprotocol("chat"), Subprotocol(f"bearer.{token}")]
    opening = connect(f"ws://127.0.0.1:{port}/chat", subprotocols=protocols, open_timeout=60, proxy=None)
    found = await opening
    assert found.subprotocol == "chat"
    return found


async def ended(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the back end closes the socket."""
    try:
        async with asyncio.timeout(60):
            while True:
                await socket.recv()
    except ConnectionClosed:
        return socket.close_code, socket.close_reason


async def works(server: ServerProcess, port: int) -> None:
    """Check the back end at ``port``: it serves live sessions only, and the end of one closes its sockets, and no others."""
    async with await logged_in(server.url) as ada, await logged_in(server.url) as bob, Client(server.url) as visitor:
        sockets = [await opened(port, ada.access_token) for _ in range(2)]
        other = await opened(port, bob.access_token)
        for socket, client in ((sockets[0], ada), (sockets[1], ada), (other, bob)):
            assert await socket.recv() == f"hello {(await client.session())['subject']}"
        token = ada.access_token
        (await ada.request("POST", "/api/auth/logout")).raise_for_status()
        for socket in sockets:
            assert await ended(socket) == (4403, "session ended: logout")
        assert await ended(await opened(port, token)) == (4408, "token expired"), "what ended before is refused"
        assert await ended(await opened(port, "made.up.token")) == (4408, "token expired")
        assert await ended(await opened(port, bob.refresh_token)) == (4408, "token expired")
        (await visitor.begin()).raise_for_status()
        anonymous = await opened(port, visitor.access_token)
        assert await ended(anonymous) == (4401, "not authenticated: the session is anonymous")
        await other.send("still here")
        assert await other.recv() == "still here"
        async with Admin(server.url, admin_token(server.data, f"chief-{next(_numbers)}")) as admin:
            (await admin.http.delete(f"/sessions/{bob.session_id}")).raise_for_status()
        assert await ended(other) == (4403, "session ended: revoked"), "whoever ends it"
