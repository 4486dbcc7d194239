"""``interlock`` whose wall clock is wrong by TEST_SHIFT_MS ms. Run as a module it is the server.

SIGCONT sets its clock back by an hour.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interlock.server.cli import main as cli
from tests.support.server import ServerProcess, check_trace

_VARIABLE = "TEST_SHIFT_MS"


@contextmanager
def shifted_clock(data: Path, shift_s: float, trace: Path, **settings: Any) -> Iterator[ServerProcess]:
    """Run such a server until the context ends. All runs on one log write to one ``trace``."""
    server = ServerProcess(data, {"model_trace": trace, **settings})
    server.entry = "tests.support.shifted_clock"
    os.environ[_VARIABLE] = str(round(shift_s * 1000))
    try:
        server.start()
        yield server
    finally:
        del os.environ[_VARIABLE]
        server.stop()
        check_trace(trace)


if __name__ == "__main__":
    _wall = time.time_ns
    _shift_ns = int(os.environ[_VARIABLE]) * 1_000_000

    def _set_back(_number: int, _frame: object) -> None:
        global _shift_ns  # noqa: PLW0603  # the clock of the whole process
        _shift_ns -= 3_600_000_000_000

    # The server ignores this signal.
    signal.signal(signal.SIGCONT, _set_back)
    time.time_ns = lambda: _wall() + _shift_ns
    cli.main()
