"""Who may use the console: the cookie of an operator's session, shown by a page of the console itself."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import quote, urlencode

import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect
from litestar.types import HTTPScope

from interlock.machine.errors import CredentialMissing, CredentialRefused, LoginTooOld, OriginRefused
from interlock.server.experience import problems
from interlock.server.experience.admission import address_of
from interlock.server.experience.calls import services_of, wired_services
from interlock.server.experience.credentials import (
    CONSOLE_COOKIE,
    cookie_named,
    ensure_recent_login,
    from_browser,
    header,
    refuse_foreign,
)
from interlock.server.experience.pages.documents import page
from interlock.server.experience.problems import RequestRefused
from interlock.server.guard.origins import Use
from interlock.server.runtime.accounts.administration import Caller
from interlock.server.runtime.console.console import Console
from interlock.server.runtime.console.operators import Operator

_log = structlog.get_logger("interlock.admin")

ROOT: Final = "/console"
LOGIN: Final = "/console/login"

_COOKIE: Final = CONSOLE_COOKIE.encode() + b"="
_SEE_OTHER: Final = 303
_ONLY_LOOK: Final = "your account may look at the console, and not act in it"
_OF_PAGE: Final = "only a page of the console may send this"

Connection = ASGIConnection[Any, Any, Any, Any]


def console_of(connection: Connection) -> Console:
    """Return what the console works with.

    Raises:
        RequestRefused: this server has no console, because no group of operators is named.
        SettingsError: the keys are unusable, so no operator can be recognised.
    """
    console = services_of(connection).console
    if console is None:
        raise RequestRefused(
            404, "this server has no console; the settings console_look and console_act name who may use it"
        )
    return console


def held_cookie(scope: Any) -> str | None:
    """Return the operator's cookie in a request, or None."""
    return cookie_named(scope, _COOKIE)


async def any_page(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard what needs no operator: the login page.

    Raises:
        RequestRefused: this server has no console.
    """
    console_of(connection)


async def own_form(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard a form of the console's own pages. Origins in the setting ``origins`` are the application's, and are refused too.

    Raises:
        OriginRefused: another page, or none, has sent it.
    """
    await any_page(connection, handler)
    if not from_browser(connection.scope):
        raise OriginRefused(_OF_PAGE)
    refuse_foreign(Use.CALL, connection.scope, ())


async def looking(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard what operators look at. The operator becomes ``request.user``.

    Raises:
        CredentialRefused, RoleMissing: the browser shows no operator's session.
        OriginRefused: another site's page asks for it, and not by a link.
        SurfaceFailed: the log has stopped; what is stored may not be what was acknowledged.
    """
    console, scope = console_of(connection), cast("HTTPScope", connection.scope)
    held = held_cookie(scope)
    if held is None:
        raise CredentialMissing("sign in to the console")
    if (header(scope, b"sec-fetch-mode"), header(scope, b"sec-fetch-dest")) != ("navigate", "document"):
        refuse_foreign(Use.CALL, scope, ())
    operator = await console.operators.authenticate(held)
    services_of(connection).sessions.check_alive()
    _log.info("admin.call", actor=operator.actor, method=scope["method"], route=scope["path_template"])
    connection.scope["user"] = operator


async def acting(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard an act of an operator. The operator becomes ``request.user``.

    Raises:
        OriginRefused: another page has sent it.
        CredentialRefused, RoleMissing: the browser shows no operator's session.
        RequestRefused: the operator may only look.
        LoginTooOld: the operator has to type the password again.
    """
    await own_form(connection, handler)
    await looking(connection, handler)
    operator: Operator = connection.scope["user"]
    if not operator.may_act:
        raise RequestRefused(403, _ONLY_LOOK)
    ensure_recent_login(services_of(connection), operator.session)


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Return who acts, for the records of a call that :func:`acting` guards."""
    operator: Operator = request.user
    return Caller(operator.actor, address_of(request.scope), operator.acting)


def see_other(path: str, **query: str) -> Redirect:
    """Return a redirect to ``path`` by GET."""
    return Redirect(f"{path}?{urlencode(query)}" if query else path, status_code=_SEE_OTHER)


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer a refused request with a page, or with the login page; a module's request with a problem document."""
    if "text/html" not in request.headers.get("accept", ""):
        return problems.handle(request, error)
    problem, headers = problems.logged_problem(request, error)
    headers.pop("www-authenticate", None)
    if isinstance(error, CredentialRefused | LoginTooOld) and request.scope["path"] != LOGIN:
        if held_cookie(request.scope) is None and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            # SameSite=Strict: with a link on another site the browser sends no cookie, with one on this page it does.
            return page("console/follow.html", here=_here(request))
        again = {"again": "1"} if isinstance(error, LoginTooOld) else {}
        return see_other(LOGIN, next=_here(request), **again)
    answer = page("console/problem.html", problem=problem, console=wired_services(request).console is not None)
    answer.status_code = problem.status
    answer.headers.update(headers)
    return answer


def _here(request: Request[Any, Any, Any]) -> str:
    """Return the page of the request: of an act, the one that it stands on."""
    path = quote(request.scope["path"])
    if request.method == "POST":
        return path.rpartition("/")[0]
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
