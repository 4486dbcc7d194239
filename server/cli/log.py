"""The commands that look into the log: ``transitions``, ``replay``, ``verify``, ``export``."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.machine.errors import InstanceNotFound
from interlock.machine.ledger import Record, parse
from interlock.machine.machines import MACHINES
from interlock.machine.wire import transition_view
from interlock.server.cli.errors import data_option, errors_as_messages

_KINDS: Final = [machine.kind for machine in MACHINES]
_kind_option: Final = click.option(
    "--kind", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True, help="What ID is the id of."
)


@click.command()
@click.argument("instance_id", metavar="ID")
@_kind_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the API gives them.")
def transitions(instance_id: str, kind: str, data: Path, *, as_json: bool) -> None:
    """Show the recorded history of a session, or of what else has the ID."""
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages(), open_archive(data) as archive:
        records = archive.history(kind, instance_id)
        if not records:
            raise InstanceNotFound(kind, instance_id)
        if as_json:
            for record in records:
                click.echo(msgspec.json.encode(transition_view(record)))
        else:
            Console().print(_history_table(kind, instance_id, records))


class _Time(click.ParamType[tuple[str, int]]):
    """A moment of an instance: a version, or an RFC 3339 time as milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See :class:`click.ParamType`."""
        text = str(value)
        if text.isascii() and text.isdigit():
            return "version", int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither an RFC 3339 time nor a version", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{text!r} does not say in which time zone: end it with Z, or an offset", param, ctx)
        return "time", round(moment.timestamp() * 1000)


@click.command()
@click.argument("instance_id", metavar="ID")
@_kind_option
@data_option
@click.option(
    "--at",
    type=_Time(),
    metavar="TIME",
    help="Up to this moment only: an RFC 3339 time (2026-01-23T09:30:00Z), or a version; if not given, now.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the steps, and how things stood.")
def replay(instance_id: str, kind: str, data: Path, at: tuple[str, int] | None, *, as_json: bool) -> None:
    """Tell the life of a session, or of what else has the ID, in words, from the log alone.

    Each record is a numbered step. Then: how it stood at that moment, and which events were possible and
    which would have been refused, and why. `interlock verify` shows that the log is what the server wrote.
    """
    from interlock.machine.story import moment, tell
    from interlock.server.clock import SystemClock
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages():
        with open_archive(data) as archive:
            records = archive.history(kind, instance_id)
        if not records:
            raise InstanceNotFound(kind, instance_id)
        records, at_ms = _up_to(records, at, SystemClock().now_ms())
        machine = MACHINES.of(records[0].position, kind)
        steps, after = tell(machine, instance_id, records)
        stands = moment(machine, after, max(at_ms, after.updated_at_ms))
        if as_json:
            told = {"kind": kind, "instance_id": instance_id, "steps": steps, "moment": stands}
            click.echo(msgspec.json.encode(told))
        else:
            from interlock.server.cli.story import print_story

            print_story(Console(highlight=False), f"{kind} {instance_id}", steps, stands)


@click.command()
@click.argument("log", type=click.Path(path_type=Path), required=False)
@data_option
@click.option(
    "--head",
    type=click.Path(path_type=Path),
    help="The signed head to compare the log with; if not given, interlock.head beside the log.",
)
@click.option(
    "--require-head",
    is_flag=True,
    help="Exit status 1, too, when there is no head or its signature was not checked: nothing else shows a tail cut off.",
)
@click.option(
    "--at-least",
    type=click.IntRange(min=0),
    default=0,
    metavar="POSITION",
    help="Exit status 1, too, when the log ends before this position: it shows a log and head that were rolled back together.",
)
@click.option(
    "--receipt",
    "receipts",
    metavar="TEXT",
    multiple=True,
    help=(
        "Show that the log holds what was acknowledged with this receipt (position.digest); may be given again. With - they"
        " are read from standard input, one a line, as text or as JSON objects with position and digest."
    ),
)
def verify(
    log: Path | None, data: Path, head: Path | None, receipts: tuple[str, ...], at_least: int, *, require_head: bool
) -> None:
    """Check a whole log in one pass.

    Checked: the digest chain, gapless versions, every transition against the declaration, the current state of every
    session (and of whatever else the log holds) against its history, the end of the log against its signed head, if
    there is one beside it, and the file and its indexes, by SQLite itself.

    LOG is the database file or its folder. Exit status 0: all is as the server wrote it. 1: it is not, and the first
    fault is named. 2: it can't be read.
    """
    from interlock.server.cli.verify import run

    # The variable speaks of the server's own log, and not of one that is named.
    configured = os.environ.get("INTERLOCK_HEAD") if log is None else None
    with errors_as_messages():
        place = head or (Path(configured) if configured else None)
        sys.exit(run(log or data, place, receipts, sys.stdin, require_head=require_head, at_least=at_least))


@click.command()
@click.argument("log", type=click.Path(path_type=Path), required=False)
@data_option
@click.option(
    "--output", "-o", type=click.Path(allow_dash=True), default="-", help="File to write; standard output if not given."
)
def export(log: Path | None, data: Path, output: str) -> None:
    """Write the whole log as JSON lines, one transition each, as the API gives them."""
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages(), open_archive(log or data) as archive, click.open_file(output, "wb") as file:
        for row in archive.rows():
            file.write(msgspec.json.encode(transition_view(parse(row, MACHINES))) + b"\n")


def _up_to(records: list[Record], at: tuple[str, int] | None, now_ms: int) -> tuple[list[Record], int]:
    """The records up to the moment that was asked for, and that moment in milliseconds."""
    kind, number = at or ("time", now_ms)
    if kind == "version":
        if not 1 <= number <= len(records):
            raise click.BadParameter(f"there are the versions 1 to {len(records)}", param_hint="--at")
        return records[:number], records[number - 1].transition.at_ms
    begun = [record for record in records if record.transition.at_ms <= number]
    if at is None:
        return records, number
    if not begun:
        view = transition_view(records[0])
        raise click.BadParameter(f"it began at {view.at}", param_hint="--at")
    return begun, number


def _history_table(kind: str, instance_id: str, records: list[Record]) -> Table:
    table = Table("version", "position", "at", "event", "from → to", "actor", "data", title=f"{kind} {instance_id}")
    for record in records:
        view = transition_view(record)
        table.add_row(
            str(view.version),
            str(view.position),
            view.at,
            view.event,
            f"{view.source or '·'} → {view.target}",
            escape(view.actor),
            escape(msgspec.json.encode(view.data).decode()),
        )
    return table
