"""The ``exc_info`` of a log call."""

from __future__ import annotations

import sys
from typing import Any


def exception_of(exc_info: Any) -> BaseException | None:
    """Return the exception of ``exc_info``: an exception, a ``sys.exc_info`` tuple, or True for the current one."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    elif exc_info is True:
        exc_info = sys.exc_info()[1]
    return exc_info if isinstance(exc_info, BaseException) else None
