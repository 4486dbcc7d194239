"""``interlock clients``: the programs that may ask for introspection and revocation."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.table import Table

from interlock.machine.times import rfc3339
from interlock.server.cli.errors import data_option, errors_as_messages, keys_folder


@click.group()
def clients() -> None:
    """Programs that may call /oauth/introspect and /oauth/revoke.

    Each has a name and a secret of which only a hash is kept. A running server notices what changes here.
    """


@clients.command()
@click.argument("name")
@data_option
def create(name: str, data: Path) -> None:
    """Make the client NAME and print its secret, which can't be shown again."""
    from interlock.server.clock import SystemClock
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        secret = Secrets(data / "keys", "client").create(name, SystemClock().now_ms())
    # Alone on standard output, so that it can be piped to where it is kept.
    click.echo(secret)
    Console(stderr=True, highlight=False).print(
        f"Client [bold]{name}[/bold] may introspect and revoke tokens with this secret. It can't be shown again.",
        soft_wrap=True,
    )


@clients.command("list")
@data_option
def list_clients(data: Path) -> None:
    """Show all clients."""
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        table = Table("client", "since")
        for name, stored in Secrets(keys_folder(data), "client").names().items():
            table.add_row(name, rfc3339(stored.created_at_ms))
        Console().print(table)


@clients.command()
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Forget the client NAME: its secret opens nothing any more."""
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        Secrets(keys_folder(data), "client").remove(name)
        Console(highlight=False).print(f"Client [bold]{name}[/bold] is gone.")
