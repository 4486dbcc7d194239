"""``interlock admin-token``, ``clients`` and ``subscribers``: create, list and remove secrets. A server notices at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.console import Console

from interlock.machine.times import rfc3339
from interlock.server.cli.errors import data_option, errors_as_messages, json_option, keys_folder, print_listed

if TYPE_CHECKING:
    from interlock.server.guard.secrets import SecretKind

scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="What it learns of: session-ends, executions:REALM (of one realm), or all. Give it several times for several."
    " REALM is not compared with the realms of the server, which `interlock realms` lists: it may be one that comes later.",
)


def _commands(group: click.RichGroup, purpose: SecretKind, opens: str) -> click.RichGroup:
    """Add to ``group`` the commands for the secrets of ``purpose``, and return it. ``opens`` says what one is for."""

    def options(command: Callable[..., None]) -> Callable[..., None]:
        return scope_option(command) if purpose == "subscriber" else command

    @group.command()
    @click.argument("name")
    @options
    @data_option
    def create(name: str, data: Path, scopes: tuple[str, ...] = ()) -> None:
        """Create a secret for NAME and print it. It can't be shown again: only its hash is stored.

        NAME has 1 to 40 characters of a-z, 0-9 and -. Create one secret for each person or program: then the log says who
        did what, and you can remove one without the others.
        """
        from interlock.machine.events.scopes import checked_scopes
        from interlock.server.clock import SystemClock
        from interlock.server.guard.secrets import Secrets

        with errors_as_messages():
            secret = Secrets(data / "keys", purpose).create(name, SystemClock().now_ms(), checked_scopes(scopes))
        # Alone on standard output, so that it can be piped into a secret store.
        click.echo(secret)
        Console(stderr=True, highlight=False).print(
            f"With this secret [bold]{name}[/bold] {opens}. It can't be shown again.", soft_wrap=True
        )

    @group.command("list")
    @data_option
    @json_option
    def list_names(data: Path, *, as_json: bool) -> None:
        """List the names of all secrets, and when each was created."""
        from interlock.server.guard.secrets import Secrets

        with errors_as_messages():
            columns = ("name", "created", *(["scopes"] if purpose == "subscriber" else []))
            found = Secrets(keys_folder(data), purpose).names().items()
            rows = ((name, rfc3339(each.created_at_ms), " ".join(each.scopes))[: len(columns)] for name, each in found)
            print_listed(columns, rows, as_json=as_json)

    @group.command()
    @click.argument("name")
    @data_option
    def remove(name: str, data: Path) -> None:
        """Remove the secret of NAME: it is refused from now on, and streams opened with it end."""
        from interlock.server.guard.secrets import Secrets

        with errors_as_messages():
            Secrets(keys_folder(data), purpose).remove(name)
            Console(stderr=True, highlight=False).print(f"The secret of [bold]{name}[/bold] is removed.")

    return group


@click.group(name="admin-token")
def _admin_token() -> None:
    """Secrets of administrators, for `/api/admin/…` only. The log names the holder as `admin:NAME`."""


@click.group(name="clients")
def _clients() -> None:
    """Secrets of programs that may call `/oauth/introspect` and `/oauth/revoke`. The log names one as `client:NAME`."""


@click.group(name="subscribers")
def _subscribers() -> None:
    """Secrets of back ends that follow events, at `/api/events`. Each learns only of what its scopes cover."""


admin_token = _commands(_admin_token, "admin", "opens `/api/admin/…`")
clients = _commands(_clients, "client", "may introspect and revoke tokens")
subscribers = _commands(_subscribers, "subscriber", "may follow events at `/api/events`")
