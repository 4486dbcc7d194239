"""Response bodies, and the one function that hands out tokens."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Response
from litestar.datastructures import Cookie
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.server.experience.credentials import COOKIE_NAME, from_browser
from interlock.server.experience.headers import receipt_header
from interlock.server.experience.vocabulary import (
    AccountId,
    RefreshToken,
    SessionId,
    SessionState,
    Time,
    Version,
)
from interlock.server.services import Services

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


def token_response(
    services: Services, scope: Any, session: Session, receipt: Receipt | None, status: int
) -> Response[TokenResponse]:
    """Return ``session``'s current tokens, and the receipt of what was recorded.

    The caller has checked the Origin. A browser's page gets the refresh token only in a cookie that scripts can't read: a
    script injected into the page can't ask for it in the body.
    """
    refresh_token = services.tokens.refresh_token(session)
    in_cookie = from_browser(scope)
    answer = TokenResponse(
        session_id=session.session_id,
        state=session.state or "",
        version=session.version,
        access_token=services.tokens.access_token(session),
        token_type="Bearer",  # noqa: S106  # RFC 6750's name of the scheme
        expires_in=services.tokens.lifetime_s,
        refresh_token=UNSET if in_cookie else refresh_token,
        receipt=receipt or UNSET,
    )
    cookies = []
    if in_cookie:
        cookies = [session_cookie(refresh_token, age_left_s(services, session))]
    return Response(answer, status_code=status, cookies=cookies, headers=receipt_header(receipt))


def age_left_s(services: Services, session: Session) -> int:
    """Return the seconds until the absolute deadline of ``session``."""
    return max(0, session.absolute_deadline_ms - services.clock.now_ms()) // 1000


def session_cookie(value: str, max_age_s: int, key: str = COOKIE_NAME) -> Cookie:
    """Return a cookie for a browser's refresh token, or a similar one. A ``max_age_s`` of 0 removes it."""
    return Cookie(key=key, value=value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="strict")
