"""``interlock`` under a limit of open files, like ``ulimit -n`` or ``LimitNOFILE=``."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.server import ServerProcess, check_trace


def limit_files(soft: int, hard: int) -> None:
    """Limit the open files of this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def limited(data: Path, soft: int, hard: int, **settings: Any) -> Iterator[ServerProcess]:
    """Start a server with these limits of open files, until the context ends."""
    server = ServerProcess(data, settings)
    server.prepare = partial(limit_files, soft, hard)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        check_trace(server.trace)


def limit_of(server: ServerProcess) -> tuple[int, int]:
    """Return the soft and the hard limit of open files of the running ``server``."""
    return resource.prlimit(server.pid, resource.RLIMIT_NOFILE)


@contextmanager
def no_descriptor(pid: int = 0) -> Iterator[None]:
    """Keep the process (default: this one) from opening anything until the context ends: every attempt fails with EMFILE."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
