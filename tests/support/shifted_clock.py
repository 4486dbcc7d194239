"""``interlock`` with a wrong wall clock, which SIGCONT sets back by an hour."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.server import ServerProcess, check_trace

_shift_ns = 0


@contextmanager
def shifted_clock(data: Path, shift_s: float, trace: Path, **settings: Any) -> Iterator[ServerProcess]:
    """Run such a server until the context ends. All runs on one log write to one ``trace``."""
    server = ServerProcess(data, {"model_trace": trace, **settings})
    server.prepare = partial(_shift, round(shift_s * 1_000_000_000))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        check_trace(trace)


def _shift(shift_ns: int) -> None:
    """Shift the wall clock of this process."""
    global _shift_ns  # noqa: PLW0603  # the clock of the whole process
    _shift_ns = shift_ns
    wall = time.time_ns
    # The server ignores this signal.
    signal.signal(signal.SIGCONT, _set_back)
    time.time_ns = lambda: wall() + _shift_ns


def _set_back(_number: int, _frame: object) -> None:
    global _shift_ns  # noqa: PLW0603  # see above
    _shift_ns -= 3_600_000_000_000
