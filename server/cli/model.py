"""Commands for the specification: ``check`` runs the model checker, ``check-trace`` checks traces against the model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from interlock.server.cli.errors import EXIT_FAULT, EXIT_UNUSABLE

if TYPE_CHECKING:
    from interlock.spec.model.workbench import Result


@click.command()
@click.option("--deep", is_flag=True, help="Use the deeper bounds; needs much time and several GiB of memory.")
@click.option(
    "--mutants", is_flag=True, help="Then run the seeded bugs of declarations and model: each must be caught."
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this check or mutant; can be given several times.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="How many at a time."
)
def check(*, deep: bool, mutants: bool, only: tuple[str, ...], jobs: int) -> None:
    """Check the declared lifecycles with the model checker Spin.

    Reads the current declarations; nothing needs to be generated first. If a property does not hold, prints the shortest
    counterexample as a numbered story. Needs spin and gcc.

    Exit status 0: within the bounds everything holds, and every seeded bug was caught. 1: otherwise. 2: the check could not
    run.
    """
    from interlock.spec.model.bounds import described
    from interlock.spec.model.checks import CHECKS
    from interlock.spec.model.mutants.seeded import MUTANTS
    from interlock.spec.model.spin import SpinMissing
    from interlock.spec.model.workbench import catch_all, check_all

    checks = [each.name for each in CHECKS if not only or each.name in only]
    bugs = [each.name for each in MUTANTS if (mutants and not only) or each.name in only]
    unknown = set(only) - set(checks) - set(bugs)
    if unknown:
        raise click.BadParameter(f"no check or mutant is called {', '.join(sorted(unknown))}", param_hint="--only")
    console = Console(highlight=False)
    results: list[Result] = []
    try:
        if checks:
            with _progress("checking", len(checks)) as (done, seen):
                results += _each(done, check_all(deep=deep, jobs=jobs, only=checks, progress=seen))
            console.print(_table("model-checked with Spin within these bounds", results, checks))
            console.print(described(deep=deep), soft_wrap=True, markup=False)
        if bugs:
            with _progress("mutants", len(bugs)) as (done, seen):
                caught = _each(done, catch_all(jobs=jobs, only=bugs, progress=seen))
            console.print(_table("seeded bugs, each to be caught by its property", caught, bugs))
            results += caught
    except SpinMissing as missing:
        Console(stderr=True, highlight=False).print(f"[bold red]interlock:[/bold red] {missing}", soft_wrap=True)
        sys.exit(EXIT_UNUSABLE)
    told = set(only)
    for result in results:
        if result.trouble:
            console.print(f"[bold red]{escape(result.name)}[/bold red]: {escape(result.trouble)}", soft_wrap=True)
        if result.story and (not result.good or result.name in told):
            console.print(f"\n[bold]{escape(result.name)}[/bold], step by step:", soft_wrap=True)
            for number, sentence in enumerate(result.story, 1):
                console.print(f"{number:3}. {sentence}", soft_wrap=True, markup=False)
    if not all(result.good for result in results):
        sys.exit(EXIT_UNUSABLE if all(result.good or result.outcome is None for result in results) else EXIT_FAULT)


@click.command("check-trace")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--one-log",
    is_flag=True,
    help="The files come from several nodes on one log; otherwise each file is a separate log.",
)
@click.option(
    "--expect",
    multiple=True,
    type=click.Choice(["session", "execution"]),
    help="Fail if the files have no instance of this kind; can be given several times.",
)
def check_trace(files: tuple[Path, ...], *, one_log: bool, expect: tuple[str, ...]) -> None:
    """Check FILES, written by `interlock serve --model-trace`, against the rules and the model.

    A folder stands for every .jsonl file in it. A linear checker and the model check each trace independently, and must
    agree: about each session, and about each execution with the end of its session. Needs spin and gcc.

    Exit status 0: every trace is an execution of the model. 1: one is not, or the two disagree, or there are no traces, or none
    of an expected kind. 2: the check could not run.
    """
    from interlock.spec.model.spin import SearchFailed, SpinMissing
    from interlock.spec.model.trace.validation import validate

    paths = [path for file in files for path in (sorted(file.glob("*.jsonl")) if file.is_dir() else [file])]
    console = Console(stderr=True, highlight=False)
    if one_log:
        logs: Iterable[tuple[str, list[list[bytes]]]] = [("the log", [_lines(path) for path in paths])]
    else:
        logs = ((str(path), [_lines(path)]) for path in paths)
    try:
        with _progress("reading", 1 if one_log else len(paths)) as (done, _):
            outcome = validate(logs, advance=lambda _name: done())
    except (SearchFailed, SpinMissing, OSError) as error:
        console.print(f"[bold red]interlock:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(EXIT_UNUSABLE)
    for fault in outcome.faults:
        console.print(f"[bold red]fault[/bold red] {escape(fault)}", soft_wrap=True)
    counts = {"session": outcome.sessions, "execution": outcome.executions}
    missing = [kind for kind in expect if not counts[kind].asked]
    for kind in missing:
        console.print(f"[bold red]fault[/bold red] the files have no {kind}", soft_wrap=True)
    if not outcome.lines:
        console.print("[bold red]fault[/bold red] there is not one line to check", soft_wrap=True)
    if outcome.faults or missing or not outcome.lines:
        sys.exit(EXIT_FAULT)
    told = ", ".join(f"{count.asked} {kind}s ({count.different} different)" for kind, count in counts.items())
    wide = sum(count.too_wide for count in counts.values())
    beyond = f"; {wide} of them hold too much at a time for the model" if wide else ""
    Console(highlight=False).print(
        f"[green]ok[/green]: {outcome.traces} traces, {outcome.lines} lines, {told}, every one an execution of the model"
        f"{beyond}",
        soft_wrap=True,
    )


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@contextmanager
def _progress(what: str, total: int) -> Iterator[tuple[Callable[[], None], Callable[[str, int], None]]]:
    """Show a bar on standard error. Yield two callbacks: one item is done; an item has seen so many states."""
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[seen]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, seen="")
        yield (
            lambda: progress.advance(task),
            lambda name, states: progress.update(task, seen=f"{name}: {states:,} states"),
        )


def _each(done: Callable[[], None], results: Iterable[Result]) -> list[Result]:
    found = []
    for result in results:
        done()
        found.append(result)
    return found


def _table(title: str, results: Sequence[Result], order: Sequence[str]) -> Table:
    table = Table("name", "properties", "states", "MiB", "seconds", "verdict", title=title)
    for result in sorted(results, key=lambda result: order.index(result.name)):
        good = "holds" if result.kind == "check" else "caught"
        bad = "NOT SO" if result.trouble else "BROKEN"
        table.add_row(
            result.name,
            ", ".join(result.properties),
            f"{result.outcome.states:,}" if result.outcome else "",
            f"{result.outcome.megabytes:.0f}" if result.outcome else "",
            f"{result.outcome.seconds:.1f}" if result.outcome else "",
            f"[green]{good}[/green]" if result.good else f"[bold red]{escape(bad)}[/bold red]",
        )
    return table
