"""``interlock top``: the server at work on one screen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rich_click as click
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from interlock.server.cli.errors import errors_as_messages
from interlock.server.cli.live.flow import Flow, Picture
from interlock.server.cli.live.scrape import Scrape, scrape
from interlock.server.cli.options import config_option, setting_options
from interlock.server.settings_loading import load_settings

if TYPE_CHECKING:
    from interlock.server.settings import Settings
    from interlock.server.surface.sqlite.observer import Observer

_PAUSE_S: Final = 1.0
_MOST_EVENTS: Final = 8
_MS_PER_S: Final = 1000
_OFF: Final = "metrics are off: set metrics_port to see refusals and how long commits take"


class Screen(msgspec.Struct, frozen=True):
    """What is shown: the log, and the server's metrics, or why there are none."""

    log: Picture
    metrics: Scrape | None
    note: str


@click.command()
@config_option
@setting_options("data", "metrics_host", "metrics_port")
@click.option("--once", is_flag=True, help="Print once and exit, as if the output is not a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print once, as one JSON object.")
def top(config: Path | None, *, once: bool, as_json: bool, **flags: Any) -> None:
    """Show the server at work: instances by state, transitions per second, open sockets, and the newest ends of sessions.

    This reads the log's file, so it needs no secret. Refusals and the time that commits take come from the server's metrics, if
    metrics_port is set here as it is for the server. Ctrl-C ends it.
    """
    from interlock.server.surface.sqlite.observer import open_observer

    console = Console(highlight=False)
    with errors_as_messages():
        settings = load_settings(flags, os.environ, config)
        with open_observer(Path(settings.data)) as observer, suppress(KeyboardInterrupt):
            screens = _screens(observer, settings)
            if as_json:
                click.echo(msgspec.json.encode(next(screens)))
            elif once or not console.is_terminal:
                console.print(_drawn(next(screens)))
            else:
                _live(console, screens)


def _live(console: Console, screens: Iterator[Screen]) -> None:
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live:
        for screen in screens:
            live.update(_drawn(screen), refresh=True)
            time.sleep(_PAUSE_S)


def _screens(observer: Observer, settings: Settings) -> Iterator[Screen]:
    """Yield what is to be shown now, each time: metrics as they are at first, then what changed since the time before."""
    from interlock.server.clock import SystemClock

    clock, flow = SystemClock(), Flow(observer)
    before: Scrape | None = None
    url = None if settings.metrics_port is None else f"http://{settings.metrics_host}:{settings.metrics_port}/metrics"
    while True:
        found = _OFF if url is None else scrape(url)
        picture = flow.look(clock.now_ms())
        if isinstance(found, str):
            yield Screen(picture, None, found)
        else:
            yield Screen(picture, found.since(before), "since the screen before" if before else "since its start")
            before = found


def _drawn(screen: Screen) -> RenderableType:
    log, metrics = screen.log, screen.metrics
    sockets = log.sockets if metrics is None else metrics.sockets
    head = f"[bold]interlock[/bold]  {log.at}  record {log.position}  sockets {sockets}"
    parts: list[RenderableType] = [head, "", _states(log), "", _events(log), ""]
    if metrics is None:
        parts.append(f"[dim]{escape(screen.note)}[/dim]")
    else:
        p99 = metrics.commit_p99_s
        took = "no commits" if p99 is None else f"99 % of commits within {p99 * _MS_PER_S:g} ms"
        parts.append(f"{took} [dim]({screen.note})[/dim]")
        parts += [f"refused [red]{escape(what)}[/red] {count:g}" for what, count in metrics.most_refused]
    ends = Table.grid(padding=(0, 2))
    for each in log.ends:
        ends.add_row(each.at[: len("2026-01-23T09:30:00")].replace("T", " "), each.session_id, escape(each.reason))
    return Group(*parts, "", "[bold]newest ends[/bold]", ends)


def _states(log: Picture) -> Table:
    table = Table.grid(padding=(0, 2))
    for kind, states in log.counts.items():
        table.add_row(f"[bold]{kind}[/bold]", "  ".join(f"{name} {count}" for name, count in states.items()))
    return table


def _events(log: Picture) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for what, rate in [*log.per_second.items()][:_MOST_EVENTS]:
        table.add_row(f"{rate:>8.1f}/s", what)
    return table if log.per_second else "[dim]nothing was recorded in the last ten seconds[/dim]"
