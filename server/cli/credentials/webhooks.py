"""``interlock webhooks``: create, change and look after webhooks. A running server notices within a second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.console import Console

from interlock.machine.errors import SettingsError
from interlock.machine.times import rfc3339
from interlock.server.cli.credentials.secrets import scope_option
from interlock.server.cli.errors import data_option, errors_as_messages, json_option, keys_folder, print_listed
from interlock.server.cli.options import config_option, setting_options
from interlock.server.settings_loading import load_settings

if TYPE_CHECKING:
    from interlock.server.guard.webhook_files import Webhook
    from interlock.server.surface.webhooks import WebhookState


@click.group()
def webhooks() -> None:
    """Where the server posts event messages, signed as Standard Webhooks describes."""


@webhooks.command()
@click.argument("name")
@click.argument("url")
@scope_option
@data_option
@config_option
@setting_options("outgoing_networks")
def create(name: str, url: str, scopes: tuple[str, ...], data: Path, config: Path | None, **flags: Any) -> None:
    """Create the webhook NAME at URL, and print the secret to verify its messages with.

    The webhook gets what is recorded from now on. URL must be https, and of a public address, except in the networks that the
    server's setting `outgoing_networks` lists: give this command the same file or option as the server.
    """
    from interlock.machine.events.scopes import checked_scopes
    from interlock.server.clock import SystemClock
    from interlock.server.guard.webhook_files import WebhookFiles
    from interlock.server.outgoing.destinations import DestinationRefused, Destinations, checked_url

    with errors_as_messages():
        wanted = checked_url(url), checked_scopes(scopes)
        try:
            Destinations(load_settings(flags, os.environ, config).outgoing_networks).check(url)
        except DestinationRefused as error:
            raise SettingsError(f"nothing could be sent to {url}: {error}") from None
        secret = WebhookFiles(data / "keys").create(name, *wanted, SystemClock().now_ms())
    # Alone on standard output, so that it can be piped into a secret store.
    click.echo(secret)
    _say(f"The receiver of [bold]{name}[/bold] verifies messages with this secret.")


@webhooks.command("list")
@data_option
@json_option
def list_webhooks(data: Path, *, as_json: bool) -> None:
    """List all webhooks, and how each does."""
    from interlock.server.guard.webhook_files import WebhookFiles
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages():
        files = WebhookFiles(keys_folder(data)).names()
        with open_archive(data) as archive:
            states = archive.webhook_states()
        rows = []
        for name, webhook in files.items():
            state, failing, waiting, dead = states.get(name, (None, None, 0, 0))
            if state is not None and state.created_at_ms != webhook.created_at_ms:
                # That of a removed webhook of the same name. A running server deletes it.
                state, failing, waiting, dead = None, None, 0, 0
            disabled = why_disabled(webhook, state)
            told = f"disabled: {disabled}" if disabled is not None else "enabled"
            rows.append((name, webhook.url, " ".join(webhook.scopes), told, failing, waiting, dead))
        columns = ("name", "url", "scopes", "state", "failing", "waiting", "dead letters")
        print_listed(columns, rows, as_json=as_json)


@webhooks.command()
@click.argument("name")
@data_option
def rotate(name: str, data: Path) -> None:
    """Give NAME a new secret and print it. For a day, messages are signed with the former one, too."""
    from interlock.server.clock import SystemClock
    from interlock.server.guard.webhook_files import WebhookFiles

    with errors_as_messages():
        click.echo(WebhookFiles(keys_folder(data)).rotate(name, SystemClock().now_ms()))
        _say(f"Messages to [bold]{name}[/bold] are signed with this secret, and for a day with the former one, too.")


@webhooks.command()
@click.argument("name")
@data_option
def enable(name: str, data: Path) -> None:
    """Send to NAME again, after it was disabled: from where it was, so nothing is missing."""
    from interlock.server.clock import SystemClock
    from interlock.server.guard.webhook_files import WebhookFiles

    with errors_as_messages():
        WebhookFiles(keys_folder(data)).ask(name, enabled_at_ms=SystemClock().now_ms())
        _say(f"[bold]{name}[/bold] is enabled.")


@webhooks.command("dead-letters")
@click.argument("name")
@data_option
@json_option
def dead_letters(name: str, data: Path, *, as_json: bool) -> None:
    """List the messages to NAME that were given up."""
    from interlock.server.guard.webhook_files import WebhookFiles
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages():
        WebhookFiles(keys_folder(data)).existing(name)
        columns = ("position", "session", "attempts", "first", "last", "because")
        with open_archive(data) as archive:
            rows = [
                (
                    each.position,
                    each.key,
                    each.attempts,
                    rfc3339(each.first_at_ms),
                    rfc3339(each.last_at_ms),
                    each.because,
                )
                for each in archive.dead_letters(name)
            ]
        print_listed(columns, rows, as_json=as_json)


@webhooks.command()
@click.argument("name")
@data_option
def replay(name: str, data: Path) -> None:
    """Send all dead letters of NAME again."""
    from interlock.server.clock import SystemClock
    from interlock.server.guard.webhook_files import WebhookFiles

    with errors_as_messages():
        WebhookFiles(keys_folder(data)).ask(name, replay_at_ms=SystemClock().now_ms())
        _say(f"The dead letters of [bold]{name}[/bold] are sent again.")


@webhooks.command()
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Remove NAME: nothing is sent to it any more, and its dead letters are deleted."""
    from interlock.server.guard.webhook_files import WebhookFiles

    with errors_as_messages():
        WebhookFiles(keys_folder(data)).remove(name)
        _say(f"The webhook [bold]{name}[/bold] is removed.")


def why_disabled(webhook: Webhook, state: WebhookState | None) -> str | None:
    """Return why nothing is sent to ``webhook``, None if it is enabled. ``state``: None if nothing was sent yet."""
    return state.disabled if state is not None and webhook.enabled_at_ms <= (state.disabled_at_ms or 0) else None


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
