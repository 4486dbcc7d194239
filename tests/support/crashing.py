"""A process that dies at a chosen step of its writing: before or after a sync of a file, a rename or a commit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from interlock.server.surface.sqlite.writer import Writer

CRASHED: Final = 9
"""The exit status."""


def crash_at(step: int) -> None:
    """Make this process die at the ``step``-th step from now."""
    left = step

    def take() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(CRASHED)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepwise(*arguments: Any, **options: Any) -> Any:
            take()
            result = call(*arguments, **options)
            take()
            return result

        return stepwise

    for owner, name in ((os, "fsync"), (Path, "rename"), (Writer, "_commit")):
        setattr(owner, name, counted(getattr(owner, name)))
