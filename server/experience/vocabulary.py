"""The API's words as enums, so that generated clients have a type for each, and types that many responses share.

Each enum is derived from the declaration of its words. The server works with plain strings: the type checker sees ``str``,
and only the OpenAPI document sees the enum.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias, get_args

from msgspec import Meta

from interlock.machine.execution.commands import (
    CancelReason,
    FailureReason,
    InterruptionReason,
)
from interlock.machine.execution.commands import Effects as DeclaredEffects
from interlock.machine.execution.commands import OnSessionEnd as DeclaredOnSessionEnd
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import ExpiryReason, RevocationReason
from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SESSION


def enum_of(name: str, values: Iterable[str], about: str) -> type[StrEnum]:
    """Return an enum ``name`` of ``values``. ``about`` is its description in the document."""
    enum: type[StrEnum] = StrEnum(name, [(value, value) for value in values])  # type: ignore[misc]  # read, not written out
    enum.__doc__ = about
    return enum


def _names(what: str) -> Iterable[str]:
    return dict.fromkeys(each.name for machine in MACHINES for each in getattr(machine.lifecycle, what))


if TYPE_CHECKING:
    AccountState: TypeAlias = str
    SessionState: TypeAlias = str
    ExecutionState: TypeAlias = str
    ExecutionReason: TypeAlias = str
    Effects: TypeAlias = str
    OnSessionEnd: TypeAlias = str
    State: TypeAlias = str
    Event: TypeAlias = str
    EndReason: TypeAlias = str
    InstanceKind: TypeAlias = str
else:
    InstanceKind = enum_of("InstanceKind", (each.kind for each in MACHINES), "What a record is of.")
    AccountState = enum_of("AccountState", (each.name for each in ACCOUNT.states), "A state of the account lifecycle.")
    SessionState = enum_of("SessionState", (each.name for each in SESSION.states), "A state of the session lifecycle.")
    ExecutionState = enum_of(
        "ExecutionState", (each.name for each in EXECUTION.states), "A state of the execution lifecycle."
    )
    ExecutionReason = enum_of(
        "ExecutionReason",
        (*get_args(FailureReason), *get_args(InterruptionReason), *get_args(CancelReason)),
        "Why an execution failed or was cancelled.",
    )
    Effects = enum_of("Effects", get_args(DeclaredEffects), "Whether an intent may run again after a crash.")
    OnSessionEnd = enum_of(
        "OnSessionEnd", get_args(DeclaredOnSessionEnd), "What the end of its session does to a running execution."
    )
    # Several lifecycles share names of states and events.
    State = enum_of("State", _names("states"), "A state of any lifecycle.")
    Event = enum_of("Event", _names("events"), "An event of any lifecycle.")
    EndReason = enum_of(
        "EndReason",
        (*get_args(ExpiryReason), *get_args(RevocationReason)),
        "What ended a session: a deadline, or somebody's reason.",
    )

SessionId: TypeAlias = Annotated[str, Meta(examples=["0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"])]
AccountId: TypeAlias = Annotated[str, Meta(examples=["acc_3q2-7wAAQGmJw0m5bW9uZQ"])]
ExecutionId: TypeAlias = Annotated[str, Meta(examples=["exe_u1VVUXdDkAVbBqWqXGCQx3lhlyu0hE6LmmiUeqWhGLM"])]
IntentId: TypeAlias = Annotated[str, Meta(examples=["2f1c3f0e-8d55-4c5c-9b0a-0a3d6c1f9d11"])]
IntentName: TypeAlias = Annotated[str, Meta(examples=["notes.create"])]
RefreshToken: TypeAlias = Annotated[
    str, Meta(examples=["0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0.1.0.sFedaU1mAqLO9BQW_gZDkODd8KZoeQ4vmEqPFDbZqRM"])
]
Version: TypeAlias = Annotated[int, Meta(examples=[3])]
Position: TypeAlias = Annotated[int, Meta(examples=[41])]
Digest: TypeAlias = Annotated[str, Meta(examples=["9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"])]
Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-01-23T09:30:00.000Z"])]
"""An RFC 3339 time in UTC, with milliseconds."""
