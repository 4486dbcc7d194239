"""Baseline of a WebSocket message in Python: an echo on picows, without ASGI and tasks.

``python -m tests.bench.bare_picows`` runs it. Nothing of Interlock is loaded.
"""

from __future__ import annotations

import asyncio
import signal

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)


class Echo(WSListener):
    """One connection."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Echo a text message; picows handles pings."""
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


def route(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
    """Return a connection, or the answer to the bench's readiness check."""
    if request.path == b"/health/ready":
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(), None)
    return Echo()


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    server = await ws_create_server(route, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"bare on http://127.0.0.1:{port}", flush=True)  # noqa: T201  # its parent reads it
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(main())
