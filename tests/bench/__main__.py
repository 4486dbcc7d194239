"""The command: choose figures, measure them one after the other, print the table, and write it into the page."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import (
    console,
    create,
    durable,
    echo,
    events,
    expiry,
    flood,
    forward_auth,
    growth,
    idle,
    intents,
    memory,
    observed,
    read,
    report,
    revoke,
    startup,
    step,
    storm,
)
from tests.bench.figure import Bench, BenchError, Figure

FIGURES: Final[dict[str, Callable[[Bench], Awaitable[list[Figure]]]]] = {
    "step": step.measure,
    "durable": durable.measure,
    "growth": growth.measure,
    "read": read.measure,
    "forward-auth": forward_auth.measure,
    "echo": echo.measure,
    "create": create.measure,
    "flood": flood.measure,
    "observed": observed.measure,
    "console": console.measure,
    "revoke": revoke.measure,
    "events": events.measure,
    "intents": intents.measure,
    "idle": idle.measure,
    "storm": storm.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "expiry": expiry.measure,
}
_TREE: Final = Path(__file__).parents[2]


def main() -> int:
    """Measure. The exit status is 0 if every figure could be measured, whatever its value."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=FIGURES, help="this figure alone; may be given again")
    parser.add_argument(
        "--quick", action="store_true", help="smaller and shorter: shows that it runs, not what it costs"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {report.PAGE.relative_to(_TREE)}")
    parser.add_argument("--sockets", type=int, help="how many sockets `storm` has; 2,000 if not given")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick measures too little to be written down")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    names = options.only or list(FIGURES)
    failed = False
    measured: dict[str, list[Figure]] = {}
    began = time.monotonic()
    columns = (TextColumn("[bold]{task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="interlock-bench-", dir=_same_disk(), ignore_cleanup_errors=True) as folder,
        Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as progress,
    ):
        task = progress.add_task("", total=len(names), name="")
        for name in names:
            progress.update(task, name=name)
            bench = Bench(
                Path(folder),
                quick=options.quick,
                say=lambda text: progress.update(task, description=text),
                sockets=options.sockets,
            )
            try:
                measured[name] = uvloop.run(FIGURES[name](bench))  # type: ignore[arg-type]  # every one is a coroutine
            except BenchError as error:
                failed = True
                progress.console.print(f"[bold red]{name}[/bold red]: {error}")
            gc.collect()
            progress.advance(task)
    table = None
    for name, figures in measured.items():
        table = report.show(name, figures, table)
    if table is not None:
        console.print(table)
    console.print(f"measured in {time.monotonic() - began:.0f} s; data on the disk of {_TREE}")
    if options.write:
        report.write(measured, FIGURES)
        console.print(f"wrote {report.PAGE.relative_to(_TREE)}")
    return int(failed)


def _same_disk() -> Path:
    """Return a data folder on the disk of the source tree: a temporary folder in memory would make commits free."""
    temporary = Path(tempfile.gettempdir())
    if temporary.stat().st_dev == _TREE.stat().st_dev:
        return temporary
    (_TREE / "build").mkdir(exist_ok=True)
    return _TREE / "build"


if __name__ == "__main__":
    sys.exit(main())
