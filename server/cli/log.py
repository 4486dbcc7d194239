"""The commands that read the log: ``transitions``, ``replay``, ``verify``, ``export``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from interlock.server.cli.instances.times import Moment

if TYPE_CHECKING:
    from interlock.server.surface.sqlite.archive import Archive

_DIGITS: Final = 16
_KINDS: Final = [machine.kind for machine in MACHINES]
_kind_option: Final = click.option(
    "--kind", type=click.Choice(_KINDS), help="Kind of the instance; if not given, the one that has this id."
)


@click.command()
@click.argument("instance_id", metavar="ID")
@_kind_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as in the API.")
def transitions(instance_id: str, kind: str | None, data: Path, *, as_json: bool) -> None:
    """Show the recorded history of a session, or of another instance."""
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages(), open_archive(data) as archive:
        kind, records = _history(archive, kind, instance_id)
        if as_json:
            for record in records:
                click.echo(msgspec.json.encode(transition_view(record)))
        else:
            Console().print(_history_table(kind, instance_id, records))


class _Time(click.ParamType[tuple[str, int]]):
    """A point in an instance's history: a version, or an RFC 3339 time in milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See :class:`click.ParamType`."""
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) < _DIGITS:
            return "version", int(text)
        return "time", Moment("is neither an RFC 3339 time nor a version").convert(value, param, ctx)


@click.command()
@click.argument("instance_id", metavar="ID")
@_kind_option
@data_option
@click.option(
    "--at",
    type=_Time(),
    metavar="TIME",
    help="Stop at this RFC 3339 time (2026-01-23T09:30:00Z), or version; if not given, now.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the steps, and the state.")
def replay(instance_id: str, kind: str | None, data: Path, at: tuple[str, int] | None, *, as_json: bool) -> None:
    """Tell the history of a session, or of another instance, in sentences.

    Each record is a numbered step. Then follow the state at that time, and which events were possible and which would
    have been refused, and why. This does not check the log: use `interlock verify` for that.
    """
    from interlock.machine.story import describe, snapshot
    from interlock.server.clock import SystemClock
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages():
        with open_archive(data) as archive:
            kind, records = _history(archive, kind, instance_id)
        records, at_ms = _up_to(records, at, SystemClock().now_ms())
        machine = MACHINES.of(records[0].position, kind)
        steps, after = describe(machine, instance_id, records)
        stands = snapshot(machine, after, max(at_ms, after.updated_at_ms))
        if as_json:
            told = {"kind": kind, "instance_id": instance_id, "steps": steps, "snapshot": stands}
            click.echo(msgspec.json.encode(told))
        else:
            from interlock.server.cli.story import print_story

            print_story(Console(highlight=False), f"{kind} {instance_id}", steps, stands)


@click.command()
@click.argument("log", type=click.Path(path_type=Path), required=False)
@data_option
@click.option(
    "--head-file",
    "head",
    type=click.Path(path_type=Path),
    help="The signed head to compare the log with; if not given, interlock.head beside the log.",
)
@click.option(
    "--require-head",
    is_flag=True,
    help="Also exit with 1 if there is no head or its signature was not checked: without it a cut-off tail is not noticed.",
)
@click.option(
    "--at-least",
    type=click.IntRange(min=0),
    default=0,
    metavar="POSITION",
    help="Also exit with 1 if the log ends before this position: detects that log and head were rolled back together.",
)
@click.option(
    "--receipt",
    "receipts",
    metavar="TEXT",
    multiple=True,
    help=(
        "Check that the log contains the record of this receipt (position.digest); repeatable. With -, read receipts from"
        " standard input, one a line, as text or as JSON objects with position and digest."
    ),
)
def verify(
    log: Path | None, data: Path, head: Path | None, receipts: tuple[str, ...], at_least: int, *, require_head: bool
) -> None:
    """Check a whole log in one pass.

    Checks the digest chain, gapless versions, every transition against the declaration, the current state of every
    instance against its history, the end of the log against its signed head, if there is one, and, with SQLite's own
    check, the file and its indexes.

    LOG is the database file or its folder. Exit status 0: the log is as the server wrote it. 1: it is not, and the first
    fault is named. 2: it can't be read.
    """
    from interlock.server.cli.verify import run

    # The variable belongs to the server's own log, not to the one given as LOG.
    configured = os.environ.get("INTERLOCK_HEAD_FILE") if log is None else None
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
    """Write the whole log as JSON lines, one transition each, as in the API."""
    from interlock.server.surface.sqlite.archive import open_archive

    with errors_as_messages(), open_archive(log or data) as archive, click.open_file(output, "wb") as file:
        for row in archive.rows():
            file.write(msgspec.json.encode(transition_view(parse(row, MACHINES))) + b"\n")


def _history(archive: Archive, kind: str | None, instance_id: str) -> tuple[str, list[Record]]:
    """Return the kind of an instance, and all its records, oldest first. Without ``kind``, look for its id in all kinds.

    Raises:
        InstanceNotFound: there is none. The message names the file.
    """
    for each in _KINDS if kind is None else [kind]:
        records = archive.history(each, instance_id)
        if records:
            return each, records
    raise InstanceNotFound(kind or "instance", instance_id, f" in {archive.file}")


def _up_to(records: list[Record], at: tuple[str, int] | None, now_ms: int) -> tuple[list[Record], int]:
    """Return the records up to the requested moment, and that moment in milliseconds."""
    kind, number = at or ("time", now_ms)
    if kind == "version":
        if not 1 <= number <= len(records):
            raise click.BadParameter(f"the versions are 1 to {len(records)}", param_hint="--at")
        return records[:number], records[number - 1].transition.at_ms
    begun = [record for record in records if record.transition.at_ms <= number]
    if at is None:
        return records, number
    if not begun:
        view = transition_view(records[0])
        raise click.BadParameter(f"its first record is at {view.at}", param_hint="--at")
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
