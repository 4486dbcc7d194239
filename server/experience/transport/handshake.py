"""The WebSocket handshake (RFC 6455, 4.2). Numbers in brackets are sections of RFC 6455."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.reader import Request

_KEY_BYTES: Final = 16


def handshake_key(request: Request) -> bytes:
    """Return the ``Sec-WebSocket-Key`` of a valid WebSocket handshake (4.2.1).

    Raises:
        RequestRefused: 426 if it asks for no WebSocket or another version; 400 if it is malformed.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        fields.setdefault(name, []).append(value)
    upgrade = [each.strip().lower() for each in b",".join(fields.get(b"upgrade", [])).split(b",")]
    if request.method != "GET" or request.http_version != "1.1":
        raise RequestRefused(426, "open this address as a WebSocket")
    if not request.offers_upgrade or upgrade != [b"websocket"]:
        raise RequestRefused(426, "open this address as a WebSocket")
    if request.has_body:
        raise RequestRefused(400, "WebSocket handshake with a body: send none")
    if fields.get(b"sec-websocket-version") != [b"13"]:
        raise RequestRefused(426, "unsupported WebSocket version: send Sec-WebSocket-Version: 13")
    keys = fields.get(b"sec-websocket-key", [])
    try:
        good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        good = False
    if not good:
        raise RequestRefused(400, "malformed WebSocket handshake: send one Sec-WebSocket-Key, 16 bytes in base64")
    return keys[0]
