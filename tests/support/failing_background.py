"""``interlock serve`` whose background work named by ``FAILING_WORK`` fails ``FAILURES`` times."""

from __future__ import annotations

import itertools
import os
from typing import Any

from interlock.server.guard.keys.keyring import KeyRing
from interlock.server.runtime.expiry import Expiry
from interlock.server.runtime.secret_records import SecretRecords
from interlock.server.surface.head import HeadKeeper
from interlock.server.surface.sqlite import files
from interlock.server.surface.sqlite.file_identity import keep_looking
from interlock.server.telemetry.metrics import PrometheusMetrics

_calls = itertools.count()


def _failing(work: Any) -> Any:
    async def run(*arguments: Any) -> None:
        if next(_calls) < int(os.environ["FAILURES"]):
            raise ValueError("correct horse battery staple")
        await work(*arguments)

    return run


def _raise(*_: object) -> None:
    raise ValueError("correct horse battery staple")


def put_in() -> None:
    """Put the faults in."""
    match os.environ["FAILING_WORK"]:
        case "expiry":
            Expiry.run = _failing(Expiry.run)  # type: ignore[method-assign]  # an injected fault
        case "keys":
            KeyRing.watch = _failing(KeyRing.watch)  # type: ignore[method-assign]  # an injected fault
        case "secrets":
            SecretRecords.run = _failing(SecretRecords.run)  # type: ignore[method-assign]  # an injected fault
        case "head":
            HeadKeeper._run = _failing(HeadKeeper._run)  # type: ignore[method-assign]  # an injected fault
        case "files":
            files.keep_looking = _failing(keep_looking)  # type: ignore[attr-defined]  # an injected fault
        case "metrics":
            _raise.__qualname__ = "PrometheusMetrics.observe"
            PrometheusMetrics.observe = _raise  # type: ignore[method-assign,assignment]  # an injected fault
