"""``interlock tail``: the records of the log as they are written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape

from interlock.machine.ledger import Record
from interlock.machine.machines import MACHINES
from interlock.machine.wire import transition_view
from interlock.server.cli.errors import data_option, errors_as_messages
from interlock.server.system.streams import printable

if TYPE_CHECKING:
    from interlock.server.surface.sqlite.observer import Observer

_PAUSE_S: Final = 0.25
_PAGE: Final = 1000
_TIME: Final = slice(len("2026-"), len("2026-01-23T09:30:00"))
_COLUMNS: Final = 80
_EVENTS: Final = sorted({event.name for machine in MACHINES for event in machine.lifecycle.events})


@click.command()
@click.argument("instance_id", metavar="[ID]", required=False)
@data_option
@click.option("--kind", "kinds", type=click.Choice([m.kind for m in MACHINES]), multiple=True, help="Only this kind.")
@click.option(
    "--event", "events", type=click.Choice(_EVENTS), multiple=True, metavar="EVENT", help="Only this event; repeatable."
)
@click.option("--after", type=click.IntRange(min=0), metavar="POSITION", help="Begin after this position of the log.")
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, help="Begin with so many records.")
@click.option("--follow/--no-follow", default=True, help="Wait for further records until Ctrl-C; the default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as in the API.")
def tail(  # noqa: PLR0913  # each is an option
    instance_id: str | None,
    data: Path,
    *,
    kinds: tuple[str, ...],
    events: tuple[str, ...],
    after: int | None,
    last: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the records of the log as they are written, of all instances or of the one with ID.

    This reads the log's file, so it needs no secret, and no server must run. It does not check the log.
    """
    from interlock.server.surface.sqlite.observer import open_observer

    console = Console(highlight=False)
    with errors_as_messages(), open_observer(data) as observer, suppress(KeyboardInterrupt):
        position = max(observer.end() - last, 0) if after is None else after
        for record in _records(observer, position, follow=follow):
            step = record.transition
            wanted = (not kinds or step.kind in kinds) and (not events or step.event in events)
            if not wanted or instance_id not in {None, step.instance_id}:
                continue
            if as_json:
                click.echo(msgspec.json.encode(transition_view(record)))
            else:
                click.echo(_line(console, record), nl=False)


def _records(observer: Observer, position: int, *, follow: bool) -> Iterator[Record]:
    """Yield the records after ``position``; with ``follow``, for ever."""
    while True:
        page = observer.after(position, _PAGE)
        yield from page
        if page:
            position = page[-1].position
        elif follow:
            time.sleep(_PAUSE_S)
        else:
            return


def _line(console: Console, record: Record) -> str:
    """Return ``record`` as one line, or as two on a terminal."""
    view = transition_view(record)
    path = view.target if view.source == view.target else f"{view.source or '·'} → {view.target}"
    who = f"{printable(view.instance_id)}  by {printable(view.actor)}"
    narrow = console.is_terminal and console.width < 2 * _COLUMNS
    at = view.at[_TIME].replace("T", " ") if narrow else view.at
    with console.capture() as said:
        console.print(
            f"{view.position:>7} [dim]{at}[/dim] {view.kind} [bold]{view.event}[/bold]: {path}"
            + (f"\n{'':>7} [dim]{escape(who)}[/dim]" if narrow else f"  {escape(who)}"),
            soft_wrap=True,
        )
    return said.get()
