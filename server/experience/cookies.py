"""Cookies, the only place that sets them: a browser's jar is read from a request, and changed by a response.

:mod:`interlock.server.runtime.browser_sessions` decides which session continues. The jar holds the refresh token in one
cookie, and each session marker in a cookie of its own name.
"""

from __future__ import annotations

import re
from typing import Any, Final

from litestar import Response
from litestar.datastructures import Cookie
from msgspec import UNSET

from interlock.machine.ledger import Receipt
from interlock.server.experience.admission import address_of
from interlock.server.experience.credentials import (
    CONSOLE_COOKIE,
    COOKIE_NAME,
    DEVICE_COOKIE,
    bearer_or_refusal,
    cookie,
    from_browser,
    header,
)
from interlock.server.experience.headers import receipt_header
from interlock.server.experience.responses import TokenResponse
from interlock.server.guard.session_devices.kept import Device
from interlock.server.guard.session_devices.names import device_name
from interlock.server.guard.throttling.devices import LIFE_S
from interlock.server.runtime.browser_sessions import Continuation, Presented
from interlock.server.services import Services

_MARKER: Final = re.compile(
    rb"(?:^|;)[ \t]*"
    + COOKIE_NAME.encode()
    + rb"-([0-9a-v]{36})=(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})[ \t]*(?=;|$)"
)

_REMOVED_AT_ONCE: Final = 12
"""Markers that one response removes. By default a proxy takes 4 KiB of headers; later responses remove the others."""


def presented(services: Services, scope: Any) -> Presented:
    """Read the credentials, the markers and the device of a request."""
    address = address_of(scope)
    return Presented(
        by_page=from_browser(scope),
        access_token=bearer_or_refusal(scope),
        kept=cookie(scope),
        markers=_markers(services, scope),
        address=address if services.addresses.counts(address) else None,
        device=Device(device_name(header(scope, b"user-agent") or ""), address),
    )


def token_response(
    services: Services, shown: Presented, continuation: Continuation, receipt: Receipt | None = None, status: int = 200
) -> Response[TokenResponse]:
    """Respond with the tokens of the session that continues; nothing else hands out tokens. ``receipt``: of the last record.

    The caller has checked the Origin. A browser's page gets the refresh token only in a cookie that scripts can't read: a
    script injected into the page can't ask for it in the body.
    """
    session, receipt = continuation.outcome.instance, receipt or continuation.outcome.receipt
    refresh_token = services.tokens.refresh_token(session)
    answer = TokenResponse(
        session_id=session.session_id,
        state=session.state or "",
        version=session.version,
        access_token=services.tokens.access_token(session),
        token_type="Bearer",  # noqa: S106  # RFC 6750's name of the scheme
        expires_in=services.tokens.lifetime_s,
        refresh_token=UNSET if shown.by_page else refresh_token,
        receipt=receipt or UNSET,
    )
    # Until the absolute deadline.
    max_age_s = max(0, session.absolute_deadline_ms - services.clock.now_ms()) // 1000
    cookies = [_cookie(refresh_token, max_age_s)] if shown.by_page else []
    cookies += [_cookie("", 0, each) for each in continuation.unmark[:_REMOVED_AT_ONCE]]
    cookies += [_cookie(services.tokens.marker(each), max_age_s, each.session_id) for each in continuation.mark]
    return Response(answer, status_code=status, cookies=cookies, headers=receipt_header(receipt))


def clearing_cookies(shown: Presented) -> list[Cookie]:
    """Return cookies that remove Interlock's from a jar, except the device cookie."""
    return [_cookie("", 0), *[_cookie("", 0, each) for each in list(shown.markers)[:_REMOVED_AT_ONCE]]]


def clearing_stored(services: Services) -> dict[str, str]:
    """Return the header that removes what pages of this origin stored, at the end of a session.

    Not "cookies": that would delete those of sibling hosts, too.
    """
    cleared = services.settings.clear_site_data
    return {"clear-site-data": ", ".join(f'"{each}"' for each in cleared)} if cleared else {}


def console_cookie(value: str, max_age_s: int) -> Cookie:
    """Return the cookie of an operator's session in the console. A ``max_age_s`` of 0 removes it."""
    return _cookie(value, max_age_s, key=CONSOLE_COOKIE)


def device_cookie(value: str | None) -> Cookie:
    """Return the cookie for a ``value`` made by ``Devices.issue``, by which the account knows this browser; None removes it."""
    return _cookie(value or "", LIFE_S if value else 0, key=DEVICE_COOKIE)


def _markers(services: Services, scope: Any) -> dict[str, int]:
    """Return the epoch of each session that the request has a valid marker of.

    All markers in the request's head count, because a skipped session would survive a logout. Each costs a read of its
    session, and its holder had to obtain that session first.
    """
    held = b";".join(value for key, value in scope["headers"] if key == b"cookie")
    # Of a session that is named twice, the highest epoch counts.
    named = sorted((int(match[2]), match[1].decode(), match[3].decode()) for match in _MARKER.finditer(held))
    return {each: epoch for epoch, each, mac in named if services.tokens.check_marker(each, epoch, mac)}


def _cookie(value: str, max_age_s: int, session_id: str = "", *, key: str = COOKIE_NAME) -> Cookie:
    """Return the cookie of the refresh token, of a session's marker, or named ``key``. A ``max_age_s`` of 0 removes it."""
    if session_id:
        key = f"{COOKIE_NAME}-{session_id}"
    return Cookie(key=key, value=value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="strict")
