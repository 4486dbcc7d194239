"""Errors that say nothing about a file: descriptors or memory are short, or a call was interrupted.

A repeated check must not mistake such an error for a removed file. The result of the last check stays valid for a while.
"""

from __future__ import annotations

import errno
import math
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

RELIED_ON_S: Final = 30.0
"""How long the result of the last check stays valid while checks fail. The OOM killer ends most shortages of memory sooner.
A key removed meanwhile stays valid as long, so a peer that can cause a shortage must not gain more."""

_TOLD_EVERY_S: Final = 30.0
_TRANSIENT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})

_log = structlog.get_logger("interlock.files")


def is_transient(error: BaseException) -> bool:
    """Return whether ``error`` says nothing about the file that a call was for."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _TRANSIENT)


class Checks:
    """The repeated checks of one file or folder. ``relied_on_s``: how long the last result stays valid."""

    def __init__(self, path: Path, relied_on_s: float = RELIED_ON_S) -> None:
        self._path = path
        self._relied_on_s = relied_on_s
        self._succeeded_at = monotonic()
        self._failing = False
        self._told_at = -math.inf

    def succeeded(self) -> None:
        """Record that a check was complete."""
        self._succeeded_at = monotonic()
        self._failing = False

    def excuse(self, error: BaseException) -> bool:
        """Return whether the result of the last complete check is still valid after a check failed with ``error``.

        Only the first failure in a row is logged, at most twice a minute.
        """
        if not is_transient(error):
            return False
        now = monotonic()
        if not self._failing and now >= self._told_at + _TOLD_EVERY_S:
            self._told_at = now
            _log.warning("files.unchecked", path=str(self._path), error=str(error) or type(error).__name__)
        self._failing = True
        return now < self._succeeded_at + self._relied_on_s
