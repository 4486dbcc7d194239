"""A process that has imported the libraries and forks for each run of pytest, since their imports take longer than most nodes.

It runs as a script, because the package ``tests`` must come from the mutant's tree. Each line of its standard input is a
:class:`Request` in JSON, each line of its standard output that run's exit status, or null after the time limit.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
from contextlib import suppress
from typing import Any, TypedDict

import pytest

IMPORTED = (
    "hypothesis.stateful",
    "httpx",
    "jwt",
    "litestar.openapi",
    "picows",
    "prometheus_client",
    "rich.table",
    "rich_click",
    "sqlite_utils",
    "statemachine",
    "structlog",
    "uvloop",
)
"""Libraries only: the project's own code is what a mutant changes."""


class Request(TypedDict):
    """One run: the file ``output`` takes what it writes, and ``variables`` are added to its environment."""

    tree: str
    arguments: list[str]
    output: str
    limit_s: float
    variables: dict[str, str]


def main() -> None:
    """Run pytest for each request until standard input ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(_run(json.loads(line)))}\n")
        sys.stdout.flush()


def _run(request: Request) -> int | None:
    process_id = os.fork()
    if not process_id:
        sys.exit(_pytest(request))
    descriptor = os.pidfd_open(process_id)
    try:
        ended, _, _ = select.select([descriptor], [], [], request["limit_s"])
    finally:
        # Also the processes that the run has left.
        with suppress(ProcessLookupError):
            os.killpg(process_id, signal.SIGKILL)
        os.close(descriptor)
    _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


def _pytest(request: Request) -> Any:
    os.setsid()
    os.chdir(request["tree"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.dup2(1, 2)
    os.environ.update(request["variables"])
    sys.path[0] = request["tree"]
    return pytest.main(request["arguments"])


if __name__ == "__main__":
    main()
