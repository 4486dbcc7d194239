"""Shared parts of the commands: the log's location, tables, and errors as one line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.machine.errors import InstanceNotFound, InterlockError, LedgerFault
from interlock.server.system.streams import printable

EXIT_FAULT: Final = 1
EXIT_UNUSABLE: Final = 2

UNLIMITED: Final = 1_000_000

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="INTERLOCK_DATA",
    default=Path("data"),
    show_default=True,
    help="Folder of the log (interlock.db), or the database file itself.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def keys_folder(data: Path) -> Path:
    """Return the key folder of a server on ``data``.

    Raises:
        SettingsError: it has no keys: it is the wrong folder, or no server has run there yet.
    """
    from interlock.server.guard.keys.keyset import key_files, no_keys

    folder = data / "keys"
    if not folder.is_dir() or not key_files(folder):
        raise no_keys(folder)
    return folder


def print_listed(columns: Sequence[str], rows: Iterable[Sequence[str | int | None]], *, as_json: bool) -> None:
    """Print ``rows`` as a table, as wide as it is if another program reads it; or each as one line of JSON."""
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(dict(zip((name.replace(" ", "_") for name in columns), row, strict=True))))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(printable("" if cell is None else str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED
    console.print(table)


def _to_stderr(text: str) -> None:
    click.echo(text, nl=False, err=True)


@contextmanager
def errors_as_messages(say: Callable[[str], object] = _to_stderr) -> Iterator[None]:
    """Print an error in one line with ``say`` instead of a traceback, and exit."""
    try:
        yield
    except InterlockError as error:
        say(_line(str(error)))
        sys.exit(EXIT_FAULT if isinstance(error, LedgerFault | InstanceNotFound) else EXIT_UNUSABLE)
    except BrokenPipeError:
        # The reader of a pipe has seen enough, as in `… | head`: Click exits without a word.
        raise
    except OSError as error:
        say(_line(str(error)))
        sys.exit(EXIT_UNUSABLE)


def refuse(words: str) -> NoReturn:
    """Print ``words`` as an error, and exit with 1."""
    _to_stderr(_line(words))
    sys.exit(EXIT_FAULT)


def _line(words: str) -> str:
    console = Console(stderr=True, highlight=False)
    with console.capture() as said:
        console.print(f"[bold red]interlock:[/bold red] {escape(printable(words))}", soft_wrap=True)
    return said.get()
