"""Many requests quickly: one connection, one request after the other."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import BinaryIO
from urllib.parse import urlsplit

_AT_ONCE = 50


def ask_all(url: str, paths: Iterable[str], headers: Iterable[str] = (), source: str = "127.0.0.1") -> list[int]:
    """Send ``GET`` for each of ``paths`` from the address ``source`` and return the statuses.

    Each request has the next of ``headers``, if there is one.
    """
    address = urlsplit(url)
    lines = iter(headers)
    requests = [f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n{next(lines, '')}\r\n" for path in paths]
    statuses: list[int] = []
    with socket.create_connection((address.hostname, address.port), timeout=300, source_address=(source, 0)) as raw:
        reader = raw.makefile("rb")
        for start in range(0, len(requests), _AT_ONCE):
            some = requests[start : start + _AT_ONCE]
            raw.sendall("".join(some).encode())
            statuses += [_status(reader) for _ in some]
    return statuses


def _status(reader: BinaryIO) -> int:
    """Read one answer."""
    status = int(reader.readline().split()[1])
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    reader.read(length)
    return status
