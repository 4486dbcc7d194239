"""Repairs at a start: connections and sessions that a dead process left in the log, and records missing in its trace."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from interlock.machine.account.machine import why_superseded
from interlock.machine.errors import TransitionRefused
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.session.commands import Disconnect
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import commands, patiently
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import AccountStore
from interlock.server.surface.log import TransitionLog
from interlock.server.telemetry.model_trace import TraceWriter

_ABNORMAL = 1006
"""RFC 6455, 7.4.1: closed without a close frame."""

_PAGE = 1024


async def trace_missed(log: TransitionLog, trace: TraceWriter) -> None:
    """Start ``trace`` with the records that the log has and the trace lacks, because a process was killed before it wrote them.

    A new trace of an existing log contains only the live sessions and executions, because ended ones never appear again. A
    trace counts as new until a process has recovered.

    Raises:
        SettingsError: the trace can't be used, or belongs to another log.
    """
    told = trace.begin()
    if told is None:
        return
    # The record at the trace's last position: the first one after the position before it.
    at_last = await log.after(told.last.position - 1, 1) if told.last is not None and told.last.position else []
    trace.go_on(await log.newest(), at_last[0] if at_last else None)
    position, of_all = told.position, told.recovered
    living = {
        (machine.kind, instance_id)
        for machine in (SESSION_MACHINE, EXECUTION_MACHINE)
        for _, instance_id in await log.live_deadlines(machine.kind)
    }
    while records := await log.after(position, _PAGE):
        position = records[-1].position
        trace.missed(
            [r for r in records if of_all or (r.transition.kind, r.transition.instance_id) in living], position
        )


async def disconnect_orphans(log: TransitionLog, sessions: Sessions, node: str, *, at_once: int = _PAGE) -> int:
    """Record the disconnect of every connection that ``node``, this process, opened and no longer holds. Return their number.

    Connections of other nodes are left alone: they may be open. Call it before this process accepts its first connection.
    ``at_once`` is how many writes the log takes together.
    """

    async def disconnect(session_id: str, connection_id: str) -> None:
        # A refusal means that the session has ended meanwhile and holds no connection any more.
        with suppress(TransitionRefused):
            await sessions.submit(session_id, *commands("server", Disconnect(connection_id, _ABNORMAL)))

    orphans = [
        (session.session_id, connection.connection_id)
        for session in await log.busy(SESSION_MACHINE)
        for connection in session.connections
        if connection.node == node
    ]
    await _together([functools.partial(disconnect, *orphan) for orphan in orphans], at_once)
    return len(orphans)


async def end_left_over(sessions: Sessions, accounts: Accounts, store: AccountStore, *, at_once: int = _PAGE) -> int:
    """End the sessions that their accounts no longer allow, before this process takes work. Return their number.

    A change of an account is on disk before its sessions end, so a server that died in between has left some. ``at_once`` is
    how many writes the log takes together.
    """

    async def end(session_id: str) -> None:
        session = await sessions.load(session_id)
        account = await accounts.standing(session.subject or "")
        await patiently(functools.partial(sessions.end, session, why_superseded(account), "server"))

    session_ids = await store.superseded_sessions()
    await _together([functools.partial(end, each) for each in session_ids], at_once)
    return len(session_ids)


async def _together(works: Sequence[Callable[[], Awaitable[None]]], at_once: int) -> None:
    at_once = min(_PAGE, at_once)
    for start in range(0, len(works), at_once):
        await asyncio.gather(*(work() for work in works[start : start + at_once]))
