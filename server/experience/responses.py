"""Response bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from litestar import Response
from msgspec import UNSET, Meta, Raw, UnsetType

from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.machine.session.view import session_view
from interlock.machine.times import rfc3339
from interlock.server.experience.headers import receipt_header
from interlock.server.experience.vocabulary import (
    AccountId,
    EndReason,
    ExecutionId,
    ExecutionReason,
    ExecutionState,
    IntentId,
    IntentName,
    RefreshToken,
    SessionId,
    SessionState,
    Time,
    Version,
)
from interlock.server.guard.session_devices.kept import SessionDevice
from interlock.server.runtime.executions.executions import ExecutionData

_KEYS: Final = [
    {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
        "use": "sig",
        "alg": "ES256",
    }
]


class TokenResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session and its tokens. A browser finds the refresh token in its cookie instead of ``refresh_token``."""

    session_id: SessionId
    state: SessionState
    version: Version
    access_token: Annotated[
        str, Meta(description="JWT for `Authorization: Bearer`.", examples=["eyJhbGciOiJFUzI1NiI…"])
    ]
    token_type: Annotated[str, Meta(examples=["Bearer"])]
    expires_in: Annotated[int, Meta(description="Seconds until the access token expires.", examples=[300])]
    refresh_token: RefreshToken | UnsetType = UNSET
    receipt: Receipt | UnsetType = UNSET


class AccountResponse(msgspec.Struct, frozen=True):
    """A new account. ``subject`` is what sessions and tokens will call it."""

    subject: AccountId
    email: Annotated[str, Meta(examples=["ada@example.org"])]
    created_at: Time


class AccountView(msgspec.Struct, frozen=True):
    """An account as its owner sees it. ``email`` is null if it logs in with an identity provider.

    A realm may ask for one of the ``groups``.
    """

    subject: AccountId
    email: Annotated[str, Meta(examples=["ada@example.org"])] | None
    groups: Annotated[list[str], Meta(examples=[["staff"]])]
    created_at: Time


class DeviceView(msgspec.Struct, frozen=True):
    """The client of a session's last login or refresh. ``name`` is what its User-Agent says; nothing proves it."""

    name: Annotated[str, Meta(examples=["Firefox on Linux"])]
    address: Annotated[str, Meta(examples=["203.0.113.7"])]
    seen_at: Time


class ListedSessionView(msgspec.Struct, frozen=True):
    """A session in its owner's list. ``device`` is null for an anonymous session, and once its time is over."""

    session_id: SessionId
    state: SessionState
    version: Version
    subject: AccountId | None
    connections: Annotated[int, Meta(examples=[0])]
    created_at: Time
    idle_expires_at: Time
    expires_at: Time
    reason: EndReason | None
    device: DeviceView | None


class TicketResponse(msgspec.Struct, frozen=True):
    """A ticket for one WebSocket handshake: offer the subprotocols ``interlock.v1`` and ``ticket.<ticket>``."""

    ticket: Annotated[str, Meta(examples=["pX1w3m…"])]
    expires_in: Annotated[int, Meta(description="Seconds until the ticket expires.", examples=[30])]


class EndedResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many sessions were ended; ``receipt`` is that of the last end, and missing when there was none."""

    ended: Annotated[int, Meta(examples=[2])]
    receipt: Receipt | UnsetType = UNSET


class ExecutionView(msgspec.Struct, frozen=True):
    """An execution in a list. ``attempt`` counts its starts, ``started_at`` is the last one's.

    ``reason`` is why it failed or was cancelled: ``error`` means that the realm's code raised one.
    """

    execution_id: ExecutionId
    intent_id: IntentId
    name: IntentName
    state: ExecutionState
    attempt: Annotated[int, Meta(examples=[1])]
    accepted_at: Time
    started_at: Time | None
    ended_at: Time | None
    reason: ExecutionReason | None


class ExecutionResponse(ExecutionView, frozen=True, kw_only=True, omit_defaults=True):
    """An execution. It has a ``result`` if it succeeded, and an ``error`` if the realm's code failed with one.

    ``receipt`` is that of its last record.
    """

    receipt: Receipt
    result: (
        Annotated[
            Raw,
            Meta(
                description="JSON of the type that the realm declares; null if it declares none.",
                examples=[{"id": 1}],
                extra_json_schema={"type": ["object", "null"], "additionalProperties": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    error: Annotated[str, Meta(examples=["no such note"])] | UnsetType = UNSET


class HealthResponse(msgspec.Struct, frozen=True):
    """``ok``, or the cause of a failure; ``warnings`` are problems of the machine that the server survives."""

    status: Annotated[str, Meta(examples=["ok"])]
    warnings: Annotated[list[str], Meta(examples=[["the clock is not synchronised"]])] | UnsetType = UNSET


class KeySetResponse(msgspec.Struct, frozen=True):
    """A JWK Set (RFC 7517): the public keys of access tokens."""

    keys: Annotated[list[dict[str, str]], Meta(examples=[_KEYS])]


def ended_response(receipts: Sequence[Receipt]) -> Response[EndedResponse]:
    """Respond with the number of ``receipts``, one for each session that ended, and the last of them."""
    last = max(receipts, default=None)
    return Response(EndedResponse(len(receipts), last or UNSET), status_code=200, headers=receipt_header(last))


def device_view(seen: SessionDevice | None) -> DeviceView | None:
    """Return ``seen`` as the session's owner and administrators see it."""
    return None if seen is None else DeviceView(seen.device.name, seen.device.address, rfc3339(seen.seen_at_ms))


def listed_session(session: Session, seen: SessionDevice | None) -> ListedSessionView:
    """Return ``session`` (at version 1 or later), with its device, as its owner sees it in a list."""
    return ListedSessionView(**msgspec.structs.asdict(session_view(session)), device=device_view(seen))


def execution_view(execution: Execution) -> ExecutionView:
    """Return ``execution`` (at version 1 or later) as its owner sees it in a list."""
    return ExecutionView(
        execution_id=execution.execution_id,
        intent_id=execution.intent_id,
        name=execution.intent,
        state=execution.state or "",
        attempt=execution.attempt,
        accepted_at=rfc3339(execution.created_at_ms),
        started_at=rfc3339(execution.started_at_ms) if execution.attempt else None,
        ended_at=rfc3339(execution.updated_at_ms) if execution.state in EXECUTION_MACHINE.final else None,
        reason=execution.reason,
    )


def execution_response(execution: Execution, data: ExecutionData | None, receipt: Receipt) -> ExecutionResponse:
    """Return ``execution`` as its owner sees it, with its result or error, which ``data`` has, and ``receipt``."""
    # The data may have been read later than the execution, and then be more than its records commit to.
    result = data.result if data is not None and execution.result is not None else None
    error = data.error if data is not None and execution.error is not None else None
    return ExecutionResponse(
        **msgspec.structs.asdict(execution_view(execution)),
        receipt=receipt,
        result=UNSET if result is None else Raw(result.encode()),
        error=UNSET if error is None else error,
    )
