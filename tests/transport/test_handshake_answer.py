"""The answer to a WebSocket handshake, and what the server sends with it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

import pytest

from interlock.machine.closing import Close
from interlock.server.experience.transport.exchange import EXTENSION, UPGRADE
from interlock.server.experience.transport.handshake import handshake_key
from interlock.server.experience.transport.websocket import WebSocket
from tests.support.asynchronous import on_uvloop
from tests.support.upgraded import HANDSHAKE, Noting, upgrading

_DATA_SEGMENTS: Final = slice(152, 156)
"""The kernel's count of received segments with data (tcp(7), TCP_INFO: ``tcpi_data_segs_in``)."""

_HELLO: Final = b"\x81\x05hello"


def _close_frame(name: str) -> bytes:
    closing = Close(name)
    payload = closing.code.to_bytes(2, "big") + closing.reason.encode()
    return bytes((0x88, len(payload))) + payload


class _Greeting(Noting):
    """Sends a hello when the connection opens, and then, if told to, closes it or fails."""

    def __init__(self, *, and_closes: bool, and_fails: bool) -> None:
        super().__init__()
        self._closes = and_closes
        self._fails = and_fails

    def opened(self, wire: WebSocket) -> None:
        super().opened(wire)
        wire.send(b"hello")
        if self._closes:
            wire.close(Close("draining"))
        if self._fails:
            raise RuntimeError


@pytest.mark.parametrize(
    ("closes", "fails", "expected"),
    [
        (False, False, _HELLO),
        (True, False, _HELLO + _close_frame("draining")),
        (False, True, _HELLO + _close_frame("internal_error")),
    ],
    ids=["greets", "greets and closes", "greets and fails"],
)
@on_uvloop
async def test_handshake_answer_and_first_messages_share_a_segment(closes: bool, fails: bool, expected: bytes) -> None:  # noqa: FBT001  # pytest names them
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        key = handshake_key(scope["extensions"][EXTENSION].request)
        handler = _Greeting(and_closes=closes, and_fails=fails)
        await send({"type": UPGRADE, "handler": handler, "headers": [], "key": key})

    async with upgrading(app=app) as server:
        with socket.socket() as client:
            client.connect(("127.0.0.1", server.port))
            client.setblocking(False)  # noqa: FBT003  # the socket's signature
            client.send(HANDSHAKE)
            received = b""
            while not received.endswith(expected):
                more = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 30)
                assert more
                received += more
            head, _, frames = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert frames == expected
            information = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
            assert struct.unpack("I", information[_DATA_SEGMENTS]) == (1,)
