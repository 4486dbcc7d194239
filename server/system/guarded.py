"""Calls of listeners whose failure must not stop the calls after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

import structlog

P = ParamSpec("P")

_log = structlog.get_logger("interlock.server")


def guarded(listener: Callable[P, object], *arguments: P.args, **keywords: P.kwargs) -> bool:
    """Call ``listener`` and return whether it succeeded. An exception is only logged, because the transition has happened."""
    try:
        listener(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001  # a listener's fault must not keep the next one from closing a socket
        _log.error(
            "listener.failed", listener=getattr(listener, "__qualname__", type(listener).__name__), exc_info=error
        )
        return False
    return True
