"""``interlock`` with small send buffers: what the kernel would hold for a peer that does not read, it hardly holds."""

from __future__ import annotations

import socket

from server import cli, process

_listen = process._listen


def _listen_small(host: str, port: int) -> socket.socket:
    listener = _listen(host, port)
    # Accepted sockets inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener


if __name__ == "__main__":
    process._listen = _listen_small
    cli.main()
