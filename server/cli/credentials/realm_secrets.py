"""``interlock realm-secrets``: add, list, retire and remove the secrets that calls of remote realms are signed with."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.table import Table

from interlock.machine.times import rfc3339
from interlock.server.cli.errors import data_option, errors_as_messages, keys_folder, print_table


@click.group()
def realm_secrets() -> None:
    """Secrets that sign the calls of remote realms, and their callbacks. A running server uses a new one at once."""


@realm_secrets.command()
@click.argument("realm")
@data_option
def add(realm: str, data: Path) -> None:
    """Create another secret of REALM and print it.

    From now on each call is signed with all secrets of the realm, and a callback may be signed with any. So give the new one to
    the realm, and then retire the old ones.
    """
    from interlock.server.clock import SystemClock
    from interlock.server.guard.realm_secrets import RealmSecrets

    with errors_as_messages():
        secret = RealmSecrets(data / "keys").create(realm, SystemClock().now_ms())
    # Alone on standard output, so that it can be piped into a secret store.
    click.echo(secret)


@realm_secrets.command("list")
@data_option
def list_secrets(data: Path) -> None:
    """List the realms that have secrets, and when each secret was created."""
    from interlock.server.guard.realm_secrets import RealmSecrets

    with errors_as_messages():
        secrets = RealmSecrets(keys_folder(data))
        table = Table("realm", "created")
        for name, stored in secrets.names().items():
            for each in stored.secrets:
                table.add_row(name, rfc3339(each.created_at_ms))
        print_table(table)


@realm_secrets.command()
@click.argument("realm")
@data_option
def retire(realm: str, data: Path) -> None:
    """Remove all secrets of REALM except the newest."""
    from interlock.server.guard.realm_secrets import RealmSecrets

    with errors_as_messages():
        retired = RealmSecrets(keys_folder(data)).retire(realm)
        Console(stderr=True, highlight=False).print(f"Secrets of [bold]{realm}[/bold] that are retired: {retired}.")


@realm_secrets.command()
@click.argument("realm")
@data_option
def remove(realm: str, data: Path) -> None:
    """Remove all secrets of REALM. It is not called any more, and its callbacks are refused."""
    from interlock.server.guard.realm_secrets import RealmSecrets

    with errors_as_messages():
        RealmSecrets(keys_folder(data)).remove(realm)
        Console(stderr=True, highlight=False).print(f"The secrets of [bold]{realm}[/bold] are removed.")
