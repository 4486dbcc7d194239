"""``interlock realm-secrets``: add, list, retire and remove the secrets that calls of remote realms are signed with."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.console import Console

from interlock.machine.times import rfc3339
from interlock.server.cli.errors import data_option, errors_as_messages, json_option, keys_folder, print_listed


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
@json_option
def list_secrets(data: Path, *, as_json: bool) -> None:
    """List the realms that have secrets, and when each secret was created."""
    from interlock.server.guard.realm_secrets import RealmSecrets

    with errors_as_messages():
        found = RealmSecrets(keys_folder(data)).names().items()
        rows = [(name, rfc3339(each.created_at_ms)) for name, stored in found for each in stored.secrets]
        print_listed(("realm", "created"), rows, as_json=as_json)


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
