"""Clients that send requests without end, in a separate process, so that they slow no client down.

``python -m tests.support.login_flood URL FILE CONNECTIONS``: each connection sends the next of the requests in FILE (JSON)
after each answer, until standard input ends. After an answer of 503, ``+`` is printed; if none is, ``-``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_PAUSE_S: Final = 0.2
"""Pause after an immediate refusal: this is a flood of hashes, not of requests."""

_FULL_WITHIN_S: Final = 120

_HELD: Final = frozenset({200, 201, 429, 503})


@contextmanager
def login_flood(url: str, file: Path, requests: list[bytes], connections: int) -> Iterator[None]:
    """Send ``requests`` again and again until the context ends.

    The context begins after an answer of 503, when the flood exceeds the hashing capacity: a refusal comes late, and on a
    fast machine all would be over before the first.
    """
    file.write_text(json.dumps([request.decode("latin-1") for request in requests]))
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, url, str(file), str(connections)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) == b"+", "the flood was not more than could be hashed"
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait() == 0


async def _send(url: str, requests: Iterator[bytes], full: asyncio.Event) -> None:
    parts = urlsplit(url)
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            while True:
                writer.write(next(requests))
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                if status == 503:  # as in `_HELD`
                    full.set()
                if status not in _HELD:
                    await asyncio.sleep(_PAUSE_S)
        await asyncio.sleep(_PAUSE_S)


async def _main(url: str, texts: list[str], connections: int) -> None:
    requests = itertools.cycle([text.encode("latin-1") for text in texts])
    full = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(_send(url, requests, full)) for _ in range(connections)]
    with suppress(TimeoutError):
        await asyncio.wait_for(full.wait(), _FULL_WITHIN_S)
    sys.stdout.write("+" if full.is_set() else "-")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    # Real attackers have their own computers.
    os.nice(19)
    asyncio.run(_main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])))
