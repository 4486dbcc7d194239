"""Peers that flood a server with WebSocket frames, in a separate process, so that they slow no client down.

``python -m tests.support.flooding URL TOKEN KIND PEERS EARLY``: each peer connects, sends frames at a fixed rate, and
reconnects when it is cut, until standard input ends; then it prints how often. Without a TOKEN the handshake is refused.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.support.raw import PING, PONG, TEXT, Ended, Raw, bearer, frame, handshake

BINARY: Final = 2
CONTINUATION: Final = 0

_EVERY_S: Final = 0.01
_BYTES: Final = 14_000
"""1.4 MB/s per peer."""

_AGAIN_S: Final = 0.2

FLOODS: Final = {
    "pings": (b"", frame(PING)),
    "pongs": (b"", frame(PONG)),
    "pongs with a payload": (b"", frame(PONG, b"x" * 125)),
    "empty fragments": (frame(TEXT, final=False), frame(CONTINUATION, final=False)),
    "fragments of a byte": (frame(TEXT, final=False), frame(CONTINUATION, b"x", final=False)),
    "pings within a message": (frame(TEXT, b"{", final=False), frame(PING, b"x")),
    "tiny messages": (b"", frame(TEXT, b'{"type":"ping"}')),
}
"""The first data on the open socket, and what is then repeated."""

BAD: Final = {
    "empty texts": (b"", frame(TEXT)),
    "empty binaries": (b"", frame(BINARY)),
}
"""Invalid messages: each alone ends the connection."""


@contextmanager
def flooding(url: str, token: str, kind: str, peers: int, *, early: bool = False) -> Iterator[None]:
    """Flood the server at ``url`` until the context ends. ``early``: frames follow the handshake at once."""
    arguments = [url, token, kind, str(peers), str(int(early))]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.read(1)
        yield
    finally:
        process.stdin.close()
        cut = process.stdout.read()
        process.stdout.close()
        assert process.wait() == 0
        print(f"{peers} peers with {kind} were cut {cut.decode()} times")  # noqa: T201  # pytest shows it with a failure


def _flood(url: str, token: str, kind: str, over: threading.Event, *, early: bool) -> int:
    first, again = {**FLOODS, **BAD}[kind]
    chunk = again * (_BYTES // len(again))
    upgrade = handshake(bearer({"access_token": token}) if token else {})
    cut = 0
    while not over.is_set():
        with suppress(OSError, Ended), Raw(url) as raw:
            if early:
                raw.socket.sendall(upgrade + first + chunk)
            else:
                raw.socket.sendall(upgrade)
                raw.response()
                raw.socket.sendall(first)
            raw.socket.settimeout(0)
            rest = chunk
            while not over.is_set():
                # The rest, possibly the end of a frame, was not accepted by the kernel.
                rest = _push(raw, rest) or chunk
                time.sleep(_EVERY_S)
            return cut
        cut += 1
        time.sleep(_AGAIN_S)
    return cut


def _push(raw: Raw, data: bytes) -> bytes:
    """Send what the kernel accepts, and read what has arrived. Return the rest of ``data``.

    Raises:
        OSError: the connection is gone.
    """
    with suppress(BlockingIOError):
        data = data[raw.socket.send(data) :]
    with suppress(BlockingIOError):
        if not raw.socket.recv(1 << 20):
            raise ConnectionResetError
    return data


def _main(url: str, token: str, kind: str, peers: int, *, early: bool) -> None:
    over = threading.Event()
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(_flood(url, token, kind, over, early=early)), daemon=True)
        for _ in range(peers)
    ]
    for thread in threads:
        thread.start()
    sys.stdout.write("+")
    sys.stdout.flush()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(str(sum(counts)))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), early=sys.argv[5] == "1")
