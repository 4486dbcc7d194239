"""The commands of an execution: one data structure per declared event.

The data is recorded with the transition unchanged. Parameters, results and error texts are domain data, so they appear only as
commitments (see :mod:`interlock.machine.account.commitments`).

``node`` is the server process that runs the attempt, and ``attempt`` counts the starts of the execution from 1.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

from interlock.machine.account.commitments import Commitment

Effects: TypeAlias = Literal["once", "idempotent", "transactional"]
"""What happens after a crash. ``once``: the intent never runs again. The others: it runs again, as the same execution, until
its fifth attempt is lost."""

OnSessionEnd: TypeAlias = Literal["cancel", "finish"]
"""Whether the end of the session cancels a running execution, or lets it finish."""

FailureReason: TypeAlias = Literal["error", "timeout", "realm_missing"]
"""Why an attempt failed. ``error``: the realm's code raised it. ``realm_missing``: no realm handles the intent any more."""

InterruptionReason: TypeAlias = Literal["interrupted"]
"""Why an execution failed whose attempt was lost and must not be repeated."""

CancelReason: TypeAlias = Literal["asked", "session_ended"]
"""Why an execution was cancelled."""

IntentId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
"""The id that the client gave its intent. One subject's same id is the same execution."""

Attempt: TypeAlias = Annotated[int, Meta(ge=1)]

Timeout: TypeAlias = Annotated[int, Meta(ge=1)]
"""How long after its acceptance an execution may take, in milliseconds."""


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Accept(_Data, frozen=True):
    """Accept the ``intent`` that ``subject`` submits in the session ``session_id``.

    ``fingerprint`` is the commitment to its parameters. ``effects``, ``on_session_end`` and ``timeout_ms`` are what the realm
    declared for the intent at that time. ``parent`` is the execution that submitted it, None for a client's.
    """

    event: ClassVar[str] = "accept"
    session_id: str
    subject: str
    realm: str
    intent: str
    intent_id: IntentId
    fingerprint: Commitment
    effects: Effects
    on_session_end: OnSessionEnd
    timeout_ms: Timeout
    parent: str | None = None


class Start(_Data, frozen=True):
    """Begin the next attempt on server ``node``."""

    event: ClassVar[str] = "start"
    node: str


class Succeed(_Data, frozen=True):
    """Record the ``result`` of an attempt, by its commitment."""

    event: ClassVar[str] = "succeed"
    node: str
    attempt: Attempt
    result: Commitment


class Fail(_Data, frozen=True):
    """End the execution without a result. ``node`` and ``attempt`` are None if no attempt is running.

    ``error`` is the commitment to the error's text, None if there is none.
    """

    event: ClassVar[str] = "fail"
    reason: FailureReason
    node: str | None = None
    attempt: Attempt | None = None
    error: Commitment | None = None


class Interrupt(_Data, frozen=True, omit_defaults=False):
    """Record that an attempt is lost. ``reason`` is that of the execution if it must not be repeated."""

    event: ClassVar[str] = "interrupt"
    node: str
    attempt: Attempt
    reason: InterruptionReason = "interrupted"


class Cancel(_Data, frozen=True):
    """Stop the execution for ``reason``."""

    event: ClassVar[str] = "cancel"
    reason: CancelReason


Data: TypeAlias = Accept | Start | Succeed | Fail | Interrupt | Cancel


def execution_id_of(subject: str, intent_id: IntentId) -> str:
    """Return the id of the execution of ``subject``'s intent with the id ``intent_id``.

    It depends on nothing else. So a second acceptance of the same intent, wherever it is decided, is a second creation of one
    instance, which the log refuses.
    """
    message = b"interlock execution v1\n%d:%s" % (len(subject.encode()), (subject + intent_id).encode())
    return "exe_" + base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
