"""The command line: run a server, look into its log, check it, draw the lifecycle."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from machine.errors import InterlockError, LedgerFault, SessionNotFound
from machine.ledger import Record, parse
from machine.wire import transition_view
from server.settings import SettingRow, load_settings, setting_rows

_EXIT_FAULT: Final = 1
_EXIT_UNUSABLE: Final = 2

click.rich_click.MAX_WIDTH = 110

_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="INTERLOCK_DATA",
    default=Path("data"),
    show_default=True,
    help="Folder of the log (interlock.db), or the database file itself.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interlock", prog_name="interlock")
def main() -> None:
    """Interlock: a session-lifecycle server. One declared state machine, enforced on every transition, on disk first."""


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for row in reversed(setting_rows()):
        command = _settings_option(row)(command)
    return command


def _settings_option(row: SettingRow) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = ",".join(row.default) or "none" if row.kind is tuple else row.default
    help_text = f"{row.description} [default: {shown}; env: {row.variable}]"
    if row.kind is bool:
        return click.option(f"{row.flag}/--no-{row.flag[2:]}", row.name, default=None, help=help_text)
    kind = str if row.kind is tuple else row.kind
    return click.option(row.flag, row.name, type=kind, default=None, help=help_text)


@main.command()
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings. [env: INTERLOCK_CONFIG]")
@click.option("--walk", is_flag=True, help="Print a curl walk from the first page load to an open socket.")
@_settings_options
def serve(config: Path | None, *, walk: bool, **flags: Any) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Each setting is a flag, an environment variable or a key of the TOML file; the flag wins over the variable, the
    variable over the file.
    """
    import uvloop

    from server.logs import configure_logs
    from server.process import serve as run
    from server.walk import print_walk

    if flags["origins"] is not None:
        flags["origins"] = tuple(part.strip() for part in flags["origins"].split(",") if part.strip())
    console = Console(highlight=False)

    def on_ready(url: str) -> None:
        console.print(f"Interlock listens on [bold]{url}[/bold]  (OpenAPI: {url}/schema)", soft_wrap=True)
        if walk:
            print_walk(console, url)

    with _errors_as_messages():
        settings = load_settings(flags, os.environ, config)
        configure_logs(settings.log_level, as_json=settings.log_json)
        uvloop.run(run(settings, on_ready=on_ready))


@main.command()
@click.argument("session")
@_data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the API gives them.")
def transitions(session: str, data: Path, *, as_json: bool) -> None:
    """Show the recorded history of SESSION."""
    from server.surface.archive import open_archive

    with _errors_as_messages(), open_archive(data) as archive:
        records = archive.history(session)
        if not records:
            raise SessionNotFound(session)
        if as_json:
            _write_lines(records)
        else:
            Console().print(_history_table(session, records))


@main.command()
@click.argument("log", type=click.Path(path_type=Path), required=False)
@_data_option
def verify(log: Path | None, data: Path) -> None:
    """Check a whole log in one pass.

    Checked: the digest chain, gapless versions, every transition against the declaration, and the current state of every
    session against its history.

    LOG is the database file or its folder. Exit status 0: all is as the server wrote it. 1: it is not, and the first
    fault is named. 2: it can't be read.
    """
    from server.surface.archive import open_archive

    console = Console(stderr=True, highlight=False)
    with _errors_as_messages(), open_archive(log or data) as archive:
        total = archive.record_count()
        columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("verify", total=total)
                for position in archive.verify():
                    progress.update(task, completed=position)
        except LedgerFault as fault:
            console.print(f"[bold red]fault[/bold red] at {fault}", soft_wrap=True)
            sys.exit(_EXIT_FAULT)
    Console(highlight=False).print(
        f"[green]ok[/green]: {total} records, every one declared and in its place", soft_wrap=True
    )


@main.command()
@click.option(
    "--format", "kind", type=click.Choice(["mermaid", "svg", "json", "table"]), default="table", show_default=True
)
def diagram(kind: str) -> None:
    """Print the declared lifecycle: as a table for the terminal, Mermaid, SVG or JSON."""
    from spec.diagrams import mermaid, svg
    from spec.export import as_json
    from spec.lifecycles import SESSION

    if kind != "table":
        click.echo({"mermaid": mermaid, "svg": svg, "json": as_json}[kind](SESSION), nl=False)
        return
    table = Table("event", "from", "to", "guards", title=SESSION.description)
    for row in SESSION.transitions:
        to = "stays" if row.target == row.source else row.target
        table.add_row(row.event, row.source or "", to, ", ".join(map(str, row.guards)))
    Console().print(table)


@main.command()
@click.argument("log", type=click.Path(path_type=Path), required=False)
@_data_option
@click.option(
    "--output", "-o", type=click.Path(allow_dash=True), default="-", help="File to write; standard output if not given."
)
def export(log: Path | None, data: Path, output: str) -> None:
    """Write the whole log as JSON lines, one transition each, as the API gives them."""
    from server.surface.archive import open_archive

    with _errors_as_messages(), open_archive(log or data) as archive, click.open_file(output, "wb") as file:
        for row in archive.rows():
            file.write(msgspec.json.encode(transition_view(parse(row))) + b"\n")


def _write_lines(records: list[Record]) -> None:
    for record in records:
        click.echo(msgspec.json.encode(transition_view(record)))


def _history_table(session_id: str, records: list[Record]) -> Table:
    table = Table("version", "position", "at", "event", "from → to", "actor", "data", title=f"session {session_id}")
    for record in records:
        view = transition_view(record)
        table.add_row(
            str(view.version),
            str(view.position),
            view.at,
            view.event,
            f"{view.source or '·'} → {view.target}",
            view.actor,
            msgspec.json.encode(view.data).decode(),
        )
    return table


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Say what went wrong in one line instead of a traceback."""
    try:
        yield
    except InterlockError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]interlock:[/bold red] {error}", soft_wrap=True)
        sys.exit(_EXIT_FAULT if isinstance(error, LedgerFault | SessionNotFound) else _EXIT_UNUSABLE)
    except OSError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]interlock:[/bold red] {error}", soft_wrap=True)
        sys.exit(_EXIT_UNUSABLE)


if __name__ == "__main__":
    main()
