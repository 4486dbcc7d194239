"""The command ``admin-token``: secrets of administrators. A running server takes notice at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import rich_click as click
from rich.console import Console
from rich.table import Table

from interlock.machine.times import rfc3339
from interlock.server.cli.errors import errors_as_messages, keys_folder

_folder_option: Final = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="INTERLOCK_DATA",
    default=Path("data"),
    show_default=True,
    help="Folder of the log and the keys.",
)


@click.group(name="admin-token")
def admin_token() -> None:
    """Secrets of administrators: each opens `/api/admin/…`, and nothing else. Only their hashes are kept."""


@admin_token.command()
@click.argument("name")
@_folder_option
def create(name: str, data: Path) -> None:
    """Make the secret of NAME and print it, this once. The log will call whoever uses it `admin:NAME`.

    NAME has 1 to 40 of a-z, 0-9 and -. One secret for each person or program: then the log says who did what, and one
    can be removed without the others.
    """
    from interlock.server.clock import SystemClock
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        click.echo(Secrets(data / "keys", "admin").create(name, SystemClock().now_ms()))


@admin_token.command(name="list")
@_folder_option
def list_names(data: Path) -> None:
    """Show whose secrets there are, and when they were made. The secrets themselves nobody can show."""
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        table = Table("name", "made")
        for name, stored in Secrets(keys_folder(data), "admin").names().items():
            table.add_row(name, rfc3339(stored.created_at_ms))
        Console().print(table)


@admin_token.command()
@click.argument("name")
@_folder_option
def remove(name: str, data: Path) -> None:
    """Remove the secret of NAME: from now on it opens nothing, and live streams that it opened end."""
    from interlock.server.guard.secrets import Secrets

    with errors_as_messages():
        Secrets(keys_folder(data), "admin").remove(name)
