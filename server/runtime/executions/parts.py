"""What the runs of all executions share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from interlock.machine.execution.execution import Execution
from interlock.realm import Realms
from interlock.server.runtime.executions.executions import Executions
from interlock.server.runtime.executions.stores import Stores

if TYPE_CHECKING:
    from interlock.server.runtime.executions.run import Run


class RunParts(msgspec.Struct):
    """What every run works with. ``node`` is the name of this server process, ``now_ms`` the server's clock.

    ``progress`` gets what code emits. ``outcome`` waits for the end of an execution. ``count_submission`` counts a submission
    by the running code of an account, and raises RateLimited. ``late`` is called with each result that came too late, ``held``
    with the seconds for which code has held the event loop.
    ``grace`` resolves the run's ``grace_over`` 5 s later. Nothing starts before ``working`` is set, nor once
    ``draining`` is done. ``codes`` are the tasks that run realms' code, also those that do not stop.
    """

    executions: Executions
    realms: Realms
    stores: Stores
    node: str
    now_ms: Callable[[], int]
    progress: Callable[[Execution, bytes], None]
    outcome: Callable[[str], Coroutine[Any, Any, Execution]]
    count_submission: Callable[[str], object]
    late: Callable[[Execution], None]
    held: Callable[[Execution, float], None]
    grace: Callable[[Run], None]
    working: asyncio.Event
    draining: asyncio.Future[None]
    codes: set[asyncio.Task[bytes]]
