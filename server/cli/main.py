"""The command line: run a server, read and check its log, draw a lifecycle."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.table import Table

from interlock.server.cli.completion import completion
from interlock.server.cli.credentials.realm_secrets import realm_secrets
from interlock.server.cli.credentials.secrets import admin_token, clients, subscribers
from interlock.server.cli.credentials.webhooks import webhooks
from interlock.server.cli.errors import errors_as_messages
from interlock.server.cli.instances.accounts import accounts
from interlock.server.cli.instances.executions import executions
from interlock.server.cli.instances.sessions import sessions
from interlock.server.cli.keys import keys
from interlock.server.cli.live.tail import tail
from interlock.server.cli.live.top import top
from interlock.server.cli.log import export, replay, transitions, verify
from interlock.server.cli.model import check, check_trace
from interlock.server.cli.options import config_option, setting_options
from interlock.server.cli.realms import realms
from interlock.server.cli.upkeep.backup import backup
from interlock.server.cli.upkeep.doctor import doctor
from interlock.server.cli.upkeep.restore import restore
from interlock.server.settings_loading import check_environment, load_settings

click.rich_click.MAX_WIDTH = 110
# Without the --no-… of a flag, so that in 80 columns no variable's name is cut in two.
click.rich_click.OPTIONS_TABLE_COLUMN_TYPES = ["opt_primary", "metavar", "help"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interlock", prog_name="interlock")
@click.pass_context
def main(context: click.Context, /) -> None:
    """Interlock: a session-lifecycle server. One declared state machine, enforced on every transition."""
    # The doctor tells of a misspelt variable among other things.
    if context.invoked_subcommand != doctor.name:
        with errors_as_messages():
            check_environment(os.environ)


@main.command()
@config_option
@setting_options()
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server until SIGTERM, SIGHUP or Ctrl-C.

    Each setting is a flag, an environment variable or a key of the TOML file; a flag overrides a variable,
    and a variable overrides the file. The flag of a comma-separated setting may also be given several times.
    """
    # Until the server answers: imports and start-up create no garbage.
    gc.disable()
    import uvloop

    from interlock.server.cli.tour import print_next, print_tour
    from interlock.server.process import serve as run
    from interlock.server.system.streams import prepare_streams, print_in_background
    from interlock.server.telemetry.logs import logging_to_stderr

    console = Console(highlight=False)

    def on_ready(url: str) -> None:
        with console.capture() as said:
            by_http = url.startswith("http")
            schema = f"  (OpenAPI: {url}/schema)" if by_http else ""
            console.print(f"Interlock listens on [bold]{url}[/bold]{schema}", soft_wrap=True)
            print_next(console, url, settings)
            if settings.demo and by_http:
                print_tour(console, url)
        print_in_background(said.get().encode(console.encoding, "replace"))

    prepare_streams()
    with errors_as_messages():
        settings = load_settings(flags, os.environ, config)
    if settings.demo:
        os.environ.setdefault("NOTES_DATABASE", str(Path(settings.data) / "notes.db"))
    with (
        logging_to_stderr(settings.log_level, as_json=settings.log_json) as log,
        errors_as_messages(lambda text: log.put(text.encode())),
    ):
        uvloop.run(run(settings, on_ready=on_ready))


@main.command()
@click.option(
    "--format", "kind", type=click.Choice(["mermaid", "svg", "json", "table"]), default="table", show_default=True
)
@click.argument("name", metavar="[LIFECYCLE]", default="session")
def diagram(kind: str, name: str) -> None:
    """Print a declared LIFECYCLE, session (the default), account, secret or execution: as a table, Mermaid, SVG or JSON."""
    from interlock.spec.diagrams import mermaid, svg
    from interlock.spec.export import LIFECYCLES, as_json

    declared = {lifecycle.name: lifecycle for lifecycle in LIFECYCLES}
    if name not in declared:
        raise click.BadParameter(f"{name!r} is not one of {', '.join(declared)}", param_hint="LIFECYCLE")
    lifecycle = declared[name]
    if kind != "table":
        click.echo({"mermaid": mermaid, "svg": svg, "json": as_json}[kind](lifecycle), nl=False)
        return
    table = Table("event", "from", "to", "guards", title=lifecycle.description)
    for row in lifecycle.transitions:
        to = "stays" if row.target == row.source else row.target
        table.add_row(row.event, row.source or "", to, ", ".join(map(str, row.guards)))
    Console().print(table)


for _command in (
    sessions,
    accounts,
    executions,
    tail,
    top,
    transitions,
    replay,
    verify,
    export,
    backup,
    restore,
    doctor,
    check,
    check_trace,
    realms,
    realm_secrets,
    keys,
    clients,
    subscribers,
    webhooks,
    admin_token,
    completion,
):
    main.add_command(_command)
