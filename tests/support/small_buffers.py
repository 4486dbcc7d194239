"""``interlock`` with small send buffers, so that the kernel holds little for a peer that does not read.

So such a peer is noticed after little data.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interlock.server.hosting import listeners
from tests.support.server import ServerProcess, check_trace


@contextmanager
def small_buffers(data: Path, **settings: Any) -> Iterator[ServerProcess]:
    """Run such a server until the context ends."""
    server = ServerProcess(data, settings)
    server.prepare = _listen_with_small_buffers
    server.start()
    try:
        yield server
    finally:
        server.stop()
        check_trace(server.trace)


_bind_port = listeners.bind_port


def _bind_small(host: str, port: int, setting: str) -> socket.socket:
    listener = _bind_port(host, port, setting)
    # Accepted sockets inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener


def _listen_with_small_buffers() -> None:
    listeners.bind_port = _bind_small
