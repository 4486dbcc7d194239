"""Shared parts of the lists: their filters, their pages, and their tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rich_click as click
from click.core import ParameterSource
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.machine.machine import Machine
from interlock.server.cli.errors import UNLIMITED, data_option
from interlock.server.cli.instances.times import Moment
from interlock.server.system.streams import printable

if TYPE_CHECKING:
    from interlock.server.surface.directory import Cursor, InstanceFilter
    from interlock.server.surface.sqlite.observer import Observer

_CURSOR: Final = re.compile(r"(0|[1-9][0-9]{0,15})\.([0-9a-zA-Z_-]{1,64})\Z")
_MAX_PAGE: Final = 1000
_ROOMY: Final = 130
"""Columns of a terminal in which every list has one line for each instance."""


class _CursorText(click.ParamType["tuple[int, str]"]):
    """The place of an instance in a list, as the line below a page names it."""

    name = "cursor"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """See :class:`click.ParamType`."""
        match = _CURSOR.match(str(value))
        if match is None:
            self.fail(f"{str(value)!r} is not a place in a list: use the one that the page before names", param, ctx)
        return int(match[1]), match[2]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def list_options(machine: Machine[Any], reasons: Sequence[str] = (), *, of_account: bool = True) -> Decorator:
    """Return a decorator for the options of a list of ``machine``'s instances. ``reasons`` are those for which one ends."""
    options = [
        data_option,
        click.option(
            "--state",
            type=click.Choice([state.name for state in machine.lifecycle.states]),
            help="Only those in this state.",
        ),
    ]
    if of_account:
        options += [
            click.option("--account", metavar="ID", help="Only those of this account: its id, or its email address."),
            click.option("--reason", type=click.Choice(reasons), help="Only those that ended for this reason."),
            *(
                click.option(f"--{verb}-{end}", type=Moment(), help=f"Only those {said} {when} this time.")
                for verb, said in (("created", "created"), ("updated", "last changed"))
                for end, when in (("from", "at or after"), ("to", "before"))
            ),
        ]
    options += [
        click.option("--after", type=_CursorText(), help="Go on after this place: the line below a page names it."),
        click.option(
            "--limit", type=click.IntRange(1, _MAX_PAGE), default=100, show_default=True, help="Size of a page."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as in the API."),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def lists(context: click.Context) -> bool:
    """Return whether a group was called for its list, not for one of its commands.

    Raises:
        UsageError: it was called with a command, and with an option of the list, which would be ignored.
    """
    if context.invoked_subcommand is None:
        return True
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            given = parameter.opts[0]
            raise click.UsageError(f"{given} belongs to the list, not to {context.invoked_subcommand}")
    return False


def filter_of(observer: Observer, filters: dict[str, Any]) -> InstanceFilter:
    """Return the filter for the options ``filters`` of :func:`list_options`.

    Raises:
        UsageError: the ranges do not go together, or no account has the given address.
    """
    from interlock.server.surface.directory import InstanceFilter

    owner = filters["account"]
    if owner is not None and "@" in owner:
        account = account_by_email(observer, owner)
        if account is None:
            raise click.BadParameter(f"no account has the address {owner}", param_hint="--account")
        owner = account.account_id
    ranges = {f"{name}_ms": filters[name] for name in ("created_from", "created_to", "updated_from", "updated_to")}
    wanted = InstanceFilter(filters["state"], owner, filters["reason"], **ranges)
    if wanted.of_creation and wanted.by_update:
        raise click.UsageError("ranges of --created and of --updated go together only with --account")
    return wanted


def account_by_email(observer: Observer, email: str) -> Any:
    """Return the account with this address, in any spelling; None if there is none.

    Raises:
        AccountError: it does not look like an address.
    """
    from interlock.server.guard.emails import normalise_email

    return observer.account_of(normalise_email(email))


def cursor_of(after: tuple[int, str] | None) -> Cursor | None:
    """Return the place that ``--after`` names."""
    from interlock.server.surface.directory import Cursor

    return Cursor(*after) if after is not None else None


def print_page(
    found: Sequence[Any],
    limit: int,
    place: Callable[[Any], Cursor],
    show: Callable[[Sequence[Any]], None],
) -> None:
    """Print ``found`` by ``show``. If more than ``limit`` may be there, say on stderr how to go on after the last ``place``."""
    show(found)
    if found and len(found) == limit:
        last = place(found[-1])
        click.echo(f"more: --after {last.at_ms}.{last.instance_id}", err=True)


def print_json(views: Iterable[Any]) -> None:
    """Print each of ``views`` as one line of JSON."""
    for view in views:
        click.echo(msgspec.json.encode(view))


def print_rows(
    columns: Sequence[str], details: Sequence[str], rows: Iterable[tuple[Sequence[str], Sequence[str]]]
) -> None:
    """Print a table whose ``rows`` have the cells of ``columns``, and those of ``details``, of which some may be empty.

    On a terminal of 80 columns the details stand on a line of their own, below the first cell. For another program, every
    row is one line, as wide as it is.
    """
    console = Console(highlight=False)
    stacked = console.is_terminal and console.width < _ROOMY
    if not console.is_terminal:
        console.width = UNLIMITED
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number > 0, overflow="fold")
    for name in () if stacked else details:
        table.add_column(name, overflow="fold")
    for cells, more in rows:
        first, *rest = (escape(printable(cell)) for cell in cells)
        below = [escape(printable(cell)) for cell in more]
        if stacked:
            first += "".join(f"\n  [dim]{cell}[/dim]" for cell in below if cell)
        table.add_row(first, *rest, *(() if stacked else below))
    console.print(table)
