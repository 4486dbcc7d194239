"""The event message: what a back end learns of one record, whether it asks, follows a stream or receives webhooks.

Its shape is that of Standard Webhooks: ``type``, ``timestamp`` and ``data``. It names what happened and to what. It contains
none of the record's own data but the reason of an end: whoever needs more asks for it with a credential that may have it. No
field is a text that a client chose, so no client can make a receiver fail on its messages.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.machine.events.scopes import is_session_end
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record
from interlock.machine.machine import Machine, Transition
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.machine.times import rfc3339

_ID_DIGITS: Final = 16


class EventData(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record that an event message is of. ``state`` is the instance's state after it.

    ``session_id`` comes with events of sessions and executions. ``subject`` is the account: of an execution, of an ended
    session (absent if it was anonymous), or the one that the event is of. ``reason`` is why a session ended or an execution has
    no result. ``realm`` and ``intent`` come with events of executions.
    """

    position: int
    kind: str
    instance_id: str
    version: int
    event: str
    state: str
    session_id: str | None = None
    subject: str | None = None
    reason: str | None = None
    realm: str | None = None
    intent: str | None = None


class EventMessage(msgspec.Struct, frozen=True):
    """One recorded transition. ``type`` is its kind and event, such as ``session.revoke``.

    ``id`` is the same wherever and however often the message arrives: programs use it to ignore repeats.
    """

    id: str
    type: str
    timestamp: str
    data: EventData


def needed_for(transition: Transition) -> Machine[Any] | None:
    """Return the machine of the instance that :func:`message_of` needs for ``transition``; None if it needs none."""
    if transition.kind == EXECUTION_MACHINE.kind:
        return EXECUTION_MACHINE
    return SESSION_MACHINE if is_session_end(transition) else None


def message_of(record: Record, instance: Any | None) -> EventMessage:
    """Return the event message of ``record``. ``instance``: the instance after this or a later record, if it is needed.

    The message is the same whichever of these states is given.
    """
    step = record.transition
    about: dict[str, Any] = {}
    if step.kind == SESSION_MACHINE.kind:
        about["session_id"] = step.instance_id
    elif step.kind == "account":
        about["subject"] = step.instance_id
    if isinstance(instance, Session):
        about["subject"] = instance.subject
    elif isinstance(instance, Execution):
        about |= {name: getattr(instance, name) for name in ("session_id", "subject", "realm", "intent")}
    data = EventData(
        record.position,
        step.kind,
        step.instance_id,
        step.version,
        step.event,
        step.target,
        reason=getattr(step.data, "reason", None),
        **about,
    )
    # A position alone would name another record after an older log was restored.
    message_id = f"evt_{record.position}_{record.digest.hex()[:_ID_DIGITS]}"
    return EventMessage(message_id, f"{step.kind}.{step.event}", rfc3339(step.at_ms), data)
