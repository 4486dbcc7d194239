"""A WebSocket that keeps every byte that it receives, also those after a close frame, which its library ignores."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import ClientConnection


class Recorded(ClientConnection):
    """Pass it as ``create_connection``."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        super().data_received(data)

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the opcode and the payload of each frame."""
        found, rest = [], bytes(self._received).partition(b"\r\n\r\n")[2]
        while rest:
            size, at = rest[1], 2
            if size > 125:
                at = 4 if size == 126 else 10
                size = int.from_bytes(rest[2:at])
            found.append((rest[0] & 0x0F, rest[at : at + size]))
            rest = rest[at + size :]
        return found
