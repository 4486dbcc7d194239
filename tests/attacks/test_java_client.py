"""Java's own HTTP client, which by default offers HTTP/2 (``Upgrade: h2c``) with its requests, even those with bodies."""

from __future__ import annotations

import asyncio
import shutil
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asynchronous import asynchronous
from tests.support.server import ServerProcess, running_server

PROGRAM = Path(__file__).with_name("JavaClient.java")
LOGIN = b"POST /api/auth/login HTTP/1.1\r\n"
SAID = """\
begin 201 HTTP_1_1
register 201 HTTP_1_1
login 200 HTTP_1_1
session 200 HTTP_1_1
state authenticated
refresh 200 HTTP_1_1
together 10
socket hello interlock.v1
closed 1000
logout 204 HTTP_1_1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("java") / "data") as process:
        yield process


class Relay:
    """Forwards a client's bytes to the server at ``port``, and records them in ``heard``."""

    def __init__(self, port: int) -> None:
        self.heard: list[bytearray] = []
        self._port = port

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._hand_on(reader, here, heard), self._hand_on(there, writer, bytearray()))

    async def _hand_on(self, reader: StreamReader, writer: StreamWriter, heard: bytearray) -> None:
        try:
            while data := await reader.read(65536):
                heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.mark.asvs("4.2.1")
@asynchronous
async def test_javas_http_client_works_while_it_offers_http2(server: ServerProcess) -> None:
    java = shutil.which("java")
    assert java, "the tests need a JDK: make packages"
    relay = Relay(int(server.url.rpartition(":")[2]))
    async with await asyncio.start_server(relay.connected, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        program = await asyncio.create_subprocess_exec(
            java,
            str(PROGRAM),
            f"http://127.0.0.1:{port}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, errors = await asyncio.wait_for(program.communicate(), 300)
        finally:
            if program.returncode is None:
                program.kill()
    assert said.decode() == SAID, errors.decode()
    (login,) = [heard[heard.index(LOGIN) :] for heard in relay.heard if LOGIN in heard]
    assert b"\r\nUpgrade: h2c\r\n" in login.partition(b"\r\n\r\n")[0]
