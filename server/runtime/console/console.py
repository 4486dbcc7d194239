"""The parts of the console, and what they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from interlock.machine.session.commands import Policy
from interlock.server.clock import Clock
from interlock.server.guard.tokens import Tokens
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.console.chain import ChainCheck
from interlock.server.runtime.console.flow import Flow
from interlock.server.runtime.console.operators import Groups, Operators
from interlock.server.runtime.console.past import Past
from interlock.server.runtime.door import Door
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.settings import Settings
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.sqlite.log import HeadLag


class Console(msgspec.Struct, frozen=True):
    """What the console's pages work with. ``head`` knows the position of the newest signed head."""

    operators: Operators
    flow: Flow
    past: Past
    head: HeadLag
    chain: ChainCheck


async def begin_flow(
    settings: Settings, feed: Feed, doors: Sequence[Door[Any]], connections: Connections, clock: Clock
) -> Flow | None:
    """Subscribe the live numbers, if there can be operators. Call it before the log is followed."""
    if not Groups(settings.console_look, settings.console_act).named:
        return None
    flow = Flow(await feed.log.live_states(), connections, clock)
    feed.subscribe(flow.observe)
    connections.subscribe_ended(flow.ended)
    connections.subscribe_last(flow.last_closed)
    for door in doors:
        door.subscribe_refusals(flow.refused)
    return flow


def open_console(  # noqa: PLR0913, PLR0917  # what it is made from
    settings: Settings,
    flow: Flow | None,
    doors: tuple[Sessions, Accounts],
    tokens: Tokens,
    clock: Clock,
    log: TransitionLog,
    head: HeadLag,
) -> Console | None:
    """Return the console over ``flow``; None without."""
    if flow is None:
        return None
    groups = Groups(settings.console_look, settings.console_act)
    return Console(Operators(*doors, tokens, clock, groups, _policy(settings)), flow, Past(log), head, ChainCheck(log))


def _policy(settings: Settings) -> Policy:
    """Return the policy of operators' sessions: they end at one time after the login, whatever happens meanwhile."""
    lives_ms = round(settings.console_session_s * 1000)
    return msgspec.structs.replace(settings.policy, idle_timeout_ms=lives_ms, absolute_timeout_ms=lives_ms)
