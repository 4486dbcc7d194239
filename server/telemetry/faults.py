"""What an ``exc_info`` of a log call means."""

from __future__ import annotations

import sys
from typing import Any


def exception_of(exc_info: Any) -> BaseException | None:
    """The exception that ``exc_info`` names: itself, a tuple as of ``sys.exc_info``, or True for the one being handled."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    elif exc_info is True:
        exc_info = sys.exc_info()[1]
    return exc_info if isinstance(exc_info, BaseException) else None
