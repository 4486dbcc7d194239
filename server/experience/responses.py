"""Response bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from litestar import Response
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.ledger import Receipt
from interlock.server.experience.headers import receipt_header
from interlock.server.experience.vocabulary import (
    AccountId,
    RefreshToken,
    SessionId,
    SessionState,
    Time,
    Version,
)

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


class TicketResponse(msgspec.Struct, frozen=True):
    """A ticket for one WebSocket handshake: offer the subprotocols ``interlock.v1`` and ``ticket.<ticket>``."""

    ticket: Annotated[str, Meta(examples=["pX1w3m…"])]
    expires_in: Annotated[int, Meta(description="Seconds until the ticket expires.", examples=[30])]


class EndedResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many sessions were ended; ``receipt`` is that of the last end, and missing when there was none."""

    ended: Annotated[int, Meta(examples=[2])]
    receipt: Receipt | UnsetType = UNSET


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
