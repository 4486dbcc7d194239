"""A port for one process after another, which no other process on this machine can take in between."""

from __future__ import annotations

import socket
import weakref


class KeptPort:
    """A free port, ``number``, of ``host``, reserved as long as this object lives.

    A bound socket here never listens. The kernel then assigns the port to nobody, and a server that names it may listen
    beside it if it also sets SO_REUSEADDR, as servers do.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        keeper = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        weakref.finalize(self, keeper.close)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind((host, 0))
        self.number = int(keeper.getsockname()[1])
