"""A machine short of descriptors or memory: failing system calls, and manual time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.server.system import transient

SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN]
BAD = [errno.EACCES, errno.EIO, errno.ELOOP]
"""Errors that are not shortages."""

every_shortage = pytest.mark.parametrize("code", SHORTAGES, ids=errno.errorcode.get)
other_errors = pytest.mark.parametrize("code", BAD, ids=errno.errorcode.get)


class Time:
    """The monotonic time of all checks, set manually."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(transient, "monotonic", lambda: self.now)


class Failing:
    """System calls that fail, as long as ``code`` is not 0, for the paths that ``concerns``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *calls: str) -> None:
        self.code = 0
        self.concerns: Callable[[Path], bool] = lambda _path: True
        for call in calls:
            monkeypatch.setattr(os, call, self._in_place_of(getattr(os, call)))

    def _in_place_of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *arguments: Any, **keywords: Any) -> Any:
            if self.code and self.concerns(Path(path)):
                raise OSError(self.code, os.strerror(self.code))
            return call(path, *arguments, **keywords)

        return called


def events(logs: list[Any]) -> list[str]:
    return [log["event"] for log in logs]


def named(name: str) -> Callable[[Path], bool]:
    return lambda path: path.name == name
