"""Sign-in of operators: a form with email address and password, and a cookie of the console's own (ADR 74)."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Template
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import InterlockError
from interlock.server.experience import cookies
from interlock.server.experience.admission import verify_login
from interlock.server.experience.calls import read_form, services_of
from interlock.server.experience.console.access import (
    LOGIN,
    ROOT,
    any_page,
    console_of,
    held_cookie,
    own_form,
    see_other,
)
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.pages.documents import page
from interlock.server.experience.problems import RequestRefused, logged_problem

_PAGE: Final = re.compile(r"/console(/[A-Za-z0-9_.~%/-]*)?(\?[A-Za-z0-9_.~%&=+:-]*)?\Z")
"""A page of the console. Nothing else is gone to after a login, least of all another site (``//host``)."""


class LoginQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on, and whether the password is asked for again."""

    next: str = ROOT
    again: str = ""


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the login page."""

    email: str
    password: str
    next: str = ROOT


@get(LOGIN, guards=[any_page], include_in_schema=False)
async def get_login(request: Request[Any, Any, Any]) -> Template:
    """Get the login page."""
    wanted = read_query(request, LoginQuery)
    return page("console/login.html", next=_page_or_root(wanted.next), again=bool(wanted.again), email="", problem=None)


@post(LOGIN, guards=[own_form], status_code=303, include_in_schema=False)
async def sign_in(request: Request[Any, Any, Any]) -> Response[Any]:
    """Sign an operator in, and go on to the page that asked for it. If the password is wrong, show the form again."""
    services, console = services_of(request), console_of(request)
    try:
        form = msgspec.convert(await read_form(request), SignIn)
    except msgspec.ValidationError:
        raise RequestRefused(400, "send email and password") from None
    try:
        owner = await verify_login(services, request.scope, form.email, form.password)
        login = services.logins.login(owner, console.operators.policy)
        session, cookie = await console.operators.sign_in(login, held_cookie(request.scope))
    except InterlockError as error:
        problem, headers = logged_problem(request, error)
        headers.pop("www-authenticate", None)
        answer = page(
            "console/login.html", next=_page_or_root(form.next), again=False, email=form.email, problem=problem
        )
        answer.status_code = problem.status
        answer.headers.update(headers)
        return answer
    redirect = see_other(_page_or_root(form.next))
    max_age_s = max(0, session.absolute_deadline_ms - services.clock.now_ms()) // 1000
    redirect.cookies += [
        cookies.console_cookie(cookie, max_age_s),
        cookies.device_cookie(services.devices.issue(owner)),
    ]
    return redirect


@post("/console/logout", guards=[own_form], status_code=303, include_in_schema=False)
async def sign_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """End the operator's session, and forget its cookie."""
    console, held = console_of(request), held_cookie(request.scope)
    if held is not None:
        await console.operators.sign_out(held)
    redirect = see_other(LOGIN)
    redirect.cookies.append(cookies.console_cookie("", 0))
    return redirect


def _page_or_root(path: str) -> str:
    return path if _PAGE.match(path) and "//" not in path else ROOT


HANDLERS: Final[list[ControllerRouterHandler]] = [get_login, sign_in, sign_out]
QUERIES: Final = {LOGIN: LoginQuery}
