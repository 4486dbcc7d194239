"""Login with an identity provider: the endpoint that exchanges its ID token for a session."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.errors import (
    AccountDisabled,
    IdentityProviderUnavailable,
    IdentityRefused,
    Overloaded,
    RateLimited,
    TransitionRefused,
)
from interlock.server.experience import cookies
from interlock.server.experience.admission import admit_account
from interlock.server.experience.calls import CREDENTIALS, services_of
from interlock.server.experience.guards import admitted, each_of, own_page, with_body
from interlock.server.experience.headers import RECEIPT_HEADER
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.responses import TokenResponse


class IdTokenExchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ID token, and the nonce of the authorization request."""

    id_token: Annotated[
        str,
        Meta(max_length=16_384, description="ID token of the trusted provider.", examples=["eyJhbGciOiJSUzI1NiI…"]),
    ]
    nonce: (
        Annotated[
            str,
            Meta(
                max_length=512,
                description="The `nonce` of the authorization request, if it had one; the token must contain the same.",
                examples=["n-0S6_WzA2Mj"],
            ),
        ]
        | None
    ) = None


@post(
    "/api/auth/exchange",
    status_code=200,
    tags=["auth"],
    summary="Log in with an identity provider's token",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(
        400,
        403,
        413,
        415,
        *CREDENTIALS,
        IdentityRefused,
        TransitionRefused,
        RateLimited,
        IdentityProviderUnavailable,
        Overloaded,
    ),
    security=[{}, {"bearer": []}],
    guards=[each_of(own_page, admitted("exchange"), with_body("id_token"))],
)
async def exchange_id_token(
    request: Request[Any, Any, Any], data: JSONBody[IdTokenExchange]
) -> Response[TokenResponse]:
    """Log in with an ID token of the trusted OpenID Connect provider. Each ID token can be exchanged once.

    With the access token (or cookie) of an anonymous session, that session becomes the account's and keeps its id;
    without, a session is created. The first exchange of a user creates their account. It is never linked to an account
    with a password, even if the email address is the same.
    """
    services = services_of(request)
    # Check first: a token that is used up without opening a session is lost.
    services.sessions.check_alive()
    identity = await services.id_tokens.check(data.id_token, data.nonce)
    try:
        login = await services.logins.login_by(identity)
        admit_account(services, request.scope, "exchange", login.subject)
        shown = cookies.presented(services, request.scope)
        return cookies.token_response(services, shown, await services.browser_sessions.log_in(shown, login))
    except AccountDisabled as disabled:
        raise IdentityRefused(str(disabled)) from None


HANDLERS: Final[list[ControllerRouterHandler]] = [exchange_id_token]
