"""Acts of an administrator: calls of the running server, which is the only one that writes the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import rich_click as click

from interlock.machine.errors import SettingsError
from interlock.server.cli.errors import errors_as_messages, refuse
from interlock.server.settings_loading import CLIENT_VARIABLES

if TYPE_CHECKING:
    import httpx

_URL_VARIABLE, _TOKEN_VARIABLE = CLIENT_VARIABLES
_TIMEOUT_S: Final = 30.0
_ACCEPTED: Final = 202


def act_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of an act."""
    url = click.option(
        "--url",
        envvar=_URL_VARIABLE,
        default="http://127.0.0.1:8700",
        show_default=True,
        help=f"Where the server answers. [env: {_URL_VARIABLE}]",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print the answer's JSON.")
    return url(as_json(command))


def call(method: str, url: str, path: tuple[str, ...], body: Any = None) -> httpx.Response:
    """Send an administrator's call, and return the answer, which is a success. ``path`` has the parts below ``/api/admin``.

    Exit with 1 if the server refuses it.

    Raises:
        SettingsError: there is no secret, or no server answers.
    """
    import httpx

    secret = os.environ.get(_TOKEN_VARIABLE)
    if not secret:
        raise SettingsError(
            f"this needs an administrator's secret: set {_TOKEN_VARIABLE} to one made by `interlock admin-token create NAME`"
        )
    headers = {"Authorization": f"Bearer {secret}"}
    target = "/".join((url.rstrip("/"), "api/admin", *(quote(part, safe="") for part in path)))
    try:
        # Without redirects, so that the secret goes to no other host.
        answer = httpx.request(method, target, headers=headers, json=body, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise SettingsError(
            f"no server answers at {url}: {error}. The server must run; name it with --url or {_URL_VARIABLE}"
        ) from None
    if not answer.is_success:
        refuse(_why(answer))
    return answer


def act(
    method: str, url: str, path: tuple[str, ...], *, as_json: bool, body: Any = None, done: Callable[[Any], str]
) -> None:
    """Send an administrator's call, and print the answer's JSON, or what ``done`` says of it, and the receipt."""
    with errors_as_messages():
        answer = call(method, url, path, body)
    told = answer.json() if answer.content else {}
    receipt = answer.headers.get("Interlock-Receipt")
    if as_json:
        # An answer without content has its receipt in a header only.
        click.echo(answer.text or (f'{{"receipt": "{receipt}"}}' if receipt else "{}"))
        return
    click.echo(done(told) + ("" if answer.status_code != _ACCEPTED else " (not ended yet)"))
    if receipt:
        click.echo(f"receipt {receipt}")


def _why(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        words = problem.get("detail") or problem["title"]
    except (ValueError, KeyError, AttributeError):
        words = "it is not an Interlock server"
    return f"{answer.url} answers {answer.status_code}: {words}"
