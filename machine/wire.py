"""The JSON representation of records, shared by HTTP, WebSocket and the command line.

Times are RFC 3339 in UTC with milliseconds; internally they are integer milliseconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.machine.ledger import Record
from interlock.machine.times import rfc3339


class TransitionView(msgspec.Struct, frozen=True):
    """A recorded transition. ``digest`` is lower-case hex; ``data`` has the shape its event declares."""

    position: int
    kind: str
    instance_id: str
    version: int
    event: str
    source: str | None
    target: str
    at: str
    actor: str
    data: dict[str, Any]
    digest: str


def own_transition_view(record: Record) -> TransitionView:
    """Return ``record`` as the session's holder sees it: the actor is ``admin`` or ``client``, without its name."""
    view = transition_view(record)
    return msgspec.structs.replace(view, actor=view.actor.partition(":")[0])


def transition_view(record: Record) -> TransitionView:
    """Return ``record`` as administrators see it."""
    step = record.transition
    return TransitionView(
        position=record.position,
        kind=step.kind,
        instance_id=step.instance_id,
        version=step.version,
        event=step.event,
        source=step.source,
        target=step.target,
        at=rfc3339(step.at_ms),
        actor=step.actor,
        data=msgspec.to_builtins(step.data),
        digest=record.digest.hex(),
    )
