"""Forward-auth: a proxy asks for each request to an application whether, and as which user, it may pass.

nginx (``auth_request``), Caddy (``forward_auth``), Traefik (ForwardAuth), HAProxy (by Lua) and Envoy (``ext_authz``) send the
request's headers without its body. A 2xx lets it pass, with the identity headers of this answer; anything else does not.
This is the hottest path: it answers from memory, and checks the session's state each time.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ensure_serves
from interlock.machine.errors import (
    CredentialMissing,
    CredentialRefused,
    GroupsRefused,
    NotAuthenticated,
    SurfaceFailed,
)
from interlock.machine.session.machine import ensure_usable
from interlock.machine.session.session import Session, opens_until_ms, touch_due_at_ms
from interlock.server.experience.asked_request import headers_by, is_preflight
from interlock.server.experience.credentials import (
    authenticate_bearer,
    bearer,
    cookie,
    refuse_foreign,
)
from interlock.server.experience.headers import ALLOW_GET, RawHeaders
from interlock.server.experience.openapi.document import FORWARD_AUTH
from interlock.server.experience.problems import RequestRefused, send_problem
from interlock.server.experience.transport.exchange import header_block
from interlock.server.guard.groups import header_of
from interlock.server.guard.keys.keyset import Keys
from interlock.server.guard.origins import Use
from interlock.server.guard.tokens import subject_of
from interlock.server.runtime.authenticator import first_good, naming
from interlock.server.services import Services
from interlock.server.system.newest import keep_newest

CACHED_DECISION: Final = "interlock.cached_decision"
"""Key in a scope's ``state``: the result of :meth:`ForwardAuth.cached_decision` for the request, None included."""

_LIMIT: Final = 50_000
_READS: Final = frozenset({"GET", "HEAD"})
_IDENTITY: Final = (
    b"remote-user",
    b"remote-groups",
    b"remote-email",
    b"remote-name",
    b"x-session-id",
    b"x-session-state",
)
_LENGTH: Final = (b"content-length", b"0")
_NOBODY: Final[RawHeaders] = [*((name, b"") for name in _IDENTITY), _LENGTH]
"""The identity headers of a request that passes without an identity."""


class CachedDecision(msgspec.Struct, frozen=True):
    """A cached answer for a session, valid before ``until_ms`` and as long as what it was made from is unchanged.

    ``block``: its encoded headers.
    """

    keys: Keys
    session: Session
    account: Account
    until_ms: int
    block: bytes


class ForwardAuth:
    """The endpoint. Not a Litestar handler, because routing, hooks and middleware would cost more than the answer."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._headers_by_form = headers_by(settings.forward_auth_request)
        self._preflights = settings.forward_auth_preflights
        # Envoy sends the method, and the path behind that of the endpoint.
        self._any_method = settings.forward_auth_request == "envoy"
        self._path = settings.base_path + FORWARD_AUTH
        self._below = f"{self._path}/".encode()
        self._by_session: dict[str, CachedDecision] = {}
        self._by_cookie: dict[str, CachedDecision] = {}

    def serves(self, scope: Any) -> bool:
        """Return whether the request is for this endpoint; the path in ``scope`` has the base path.

        The path of Envoy's request is compared as it was sent: the part behind the endpoint's is the application's.
        """
        return scope["path"] == self._path or (self._any_method and scope["raw_path"].startswith(self._below))

    async def answer(self, scope: Any, send: Any) -> None:
        """Answer whether, and as which user, the request may pass: 200 with the identity headers, or a problem.

        Only GET is allowed; OPTIONS lists the methods, and any other method gets 405 (ASVS 4.1.4). Envoy asks with the method
        of the request.
        """
        if not self._any_method and scope["method"] == "OPTIONS":
            await _send(send, 204, [ALLOW_GET])
            return
        if not self._any_method and scope["method"] != "GET":
            await send_problem(scope, send, RequestRefused(405, "ask with GET"), [ALLOW_GET])
            return
        if self._preflights and is_preflight(self._headers_by_form(scope)):
            # Without an identity, which overwrites what the client claims.
            await _send(send, 200, _NOBODY)
            return
        # Computed once: a forged token costs a signature check.
        known = scope["state"][CACHED_DECISION] if CACHED_DECISION in scope["state"] else self.cached_decision(scope)
        try:
            if isinstance(known, Exception):
                raise known  # noqa: TRY301  # caught where it was raised
            known = known or await self._admit(scope)
        except Exception as error:  # noqa: BLE001  # any failure is a refusal
            await send_problem(scope, send, error)
        else:
            await _send(send, 200, _headers(known.session, known.account))

    def cached_decision(self, scope: Any) -> CachedDecision | Exception | None:
        """Return the cached answer or refusal if it can be decided without I/O, else None."""
        if not self._any_method and scope["method"] not in _READS:
            return None
        services = self._services
        try:
            services.tokens.ensure_usable()
            token = bearer(scope)
            if token is not None:
                claims = services.tokens.check_access_token(token)
                session = services.sessions.cached(claims.sid)
                if session is None or session.epoch != claims.epoch or claims.sub != subject_of(session):
                    return None
                known = self._by_session.get(claims.sid)
            else:
                known = self._by_cookie.get(self._cookie(scope))
                if known is None:
                    return None
                session = services.sessions.cached(known.session.session_id)
            return known if known is not None and self._holds(known, session) else None
        except CredentialRefused as error:
            # A bad bearer token says nothing about the cookie.
            return error if cookie(scope) is None else None
        except Exception as error:  # noqa: BLE001  # any failure is a refusal
            return error

    async def _admit(self, scope: Any) -> CachedDecision:
        """Return the answer to a request that may pass, and count it as activity.

        Raises:
            CredentialRefused, SessionNotFound: no credential opens a session.
            KeysUnavailable: the key files are unusable, so no cached answer is valid.
            NotAuthenticated: the session is anonymous.
            OriginRefused: the credential is a cookie, and another site's page sent it.
        """
        services = self._services
        services.tokens.ensure_usable()

        async def by_bearer() -> CachedDecision:
            return await self._renew((await authenticate_bearer(services, scope)).session)

        async def by_cookie() -> CachedDecision:
            held = self._cookie(scope)
            session, rotation = await services.authenticator.by_shown_refresh_token(held)
            renewed = await self._renew(session)
            if renewed.session.epoch == session.epoch:
                # The cookie may expire earlier than an access token.
                until_ms = min(renewed.until_ms, opens_until_ms(renewed.session, rotation, services.clock.now_ms()))
                keep_newest(self._by_cookie, held, msgspec.structs.replace(renewed, until_ms=until_ms), _LIMIT)
            return renewed

        return await first_good(_session_of, by_bearer, by_cookie)

    def _cookie(self, scope: Any) -> str:
        """Return the refresh token in the cookie, after checking that no other site's page sent it.

        Raises:
            CredentialMissing: there is none.
            OriginRefused: another site's page sent it.
        """
        held = cookie(scope)
        if held is None:
            raise CredentialMissing("send Authorization: Bearer <access token>, or the cookie")
        refuse_foreign(Use.APPLICATION, {"headers": self._headers_by_form(scope)}, self._services.settings.origins)
        return held

    def _holds(self, known: CachedDecision, session: Session | None) -> bool:
        """Return whether ``known`` is still the answer for the current ``session``."""
        return (
            # Both are replaced, never changed: the same object is the same state.
            known.session is session
            # A retired key's tokens are refused, even if they were verified before.
            and known.keys is self._services.keys
            and known.account is self._services.accounts.cached(known.account.account_id)
            and self._services.clock.now_ms() < known.until_ms
        )

    async def _renew(self, session: Session) -> CachedDecision:
        """Check the account of ``session``, which was just found usable; note the activity, and cache the answer."""
        services = self._services
        with naming(session.session_id):
            if session.subject is None:
                raise NotAuthenticated("the session is anonymous; log in first")
            await services.sessions.touch(session)
            account = await services.accounts.standing(session.subject)
            # It may have ended meanwhile.
            session = await services.sessions.load(session.session_id)
            ensure_usable(session, services.clock.now_ms())
            ensure_serves(account, session.account_epoch)
        # Then activity must be noted again, or the session is overdue.
        until_ms = min(session.deadline_ms, touch_due_at_ms(session))
        renewed = CachedDecision(services.keys, session, account, until_ms, header_block(_headers(session, account)))
        keep_newest(self._by_session, session.session_id, renewed, _LIMIT)
        return renewed


def _session_of(decision: CachedDecision) -> Session:
    return decision.session


def _headers(session: Session, account: Account) -> RawHeaders:
    """Return all identity headers, empty ones too, so that the client's own of these names are overwritten.

    Raises:
        SurfaceFailed: a group of the account breaks the rule for names, so another program wrote it.
    """
    try:
        groups = header_of(account.groups)
    except GroupsRefused as refused:
        # Don't send the other groups alone: an application may deny access by this one.
        raise SurfaceFailed(f"account {account.account_id} can't be read: {refused}") from None
    values = (account.account_id, groups, "", "", session.session_id, session.state or "")
    return [*zip(_IDENTITY, map(str.encode, values), strict=True), _LENGTH]


async def _send(send: Any, status: int, headers: RawHeaders) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
