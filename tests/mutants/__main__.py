"""The command: seed each bug into a copy of the sources, run the test that must catch it, and show the verdicts.

Without options the bugs break the published properties; with ``--connection``, requirements of the connection layer (both:
``make mutants``). With ``--measures`` each removes what one requirement of the OWASP ASVS rests on (``make measures``).
``--check`` runs none, and takes seconds to report which of all of them can't be made any more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.catalogue import CONNECTION, MEASURES, MUTANTS
from tests.mutants.check import check
from tests.mutants.mutant import Mutant, MutantError
from tests.mutants.trial import Verdict, control, copy_sources, tail, try_all

_COLUMNS: Final = (
    TextColumn("[bold]{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[last]}"),
)


def main(arguments: Sequence[str] | None = None, mutants: Sequence[Mutant] | None = None) -> int:
    """Run ``mutants``, or those that the options choose. The exit status is 0 if every one was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--measures", action="store_true", help="take away what the requirements of the OWASP ASVS rest on"
    )
    which.add_argument(
        "--connection", action="store_true", help="seed bugs into the connection layer, and into calls between servers"
    )
    which.add_argument("--check", action="store_true", help="only see whether each can still be written into the code")
    parser.add_argument("--only", action="append", metavar="WORDS", help="those whose bug says so; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once (%(default)s)")
    options = parser.parse_args(arguments)
    if mutants is None:
        mutants = MEASURES if options.measures else CONNECTION if options.connection else MUTANTS
        mutants = [*MUTANTS, *CONNECTION, *MEASURES] if options.check else mutants
    if options.only:
        mutants = [mutant for mutant in mutants if any(words in mutant.bug for words in options.only)]
        if not mutants:
            parser.error("no mutant says that")
    if options.check:
        faults = check(mutants)
        sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{len(mutants)} mutants can be made\n")
        return int(bool(faults))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    began = time.monotonic()
    try:
        verdicts = _try_all(mutants, options.jobs, console)
    except MutantError as error:
        console.print(f"[bold red]{escape(str(error))}[/bold red]")
        return 1
    if not verdicts:
        return 1
    console.print(_table(verdicts))
    loose = [verdict for verdict in verdicts if not verdict.caught]
    for verdict in loose:
        console.rule(f"[bold red]{escape(verdict.mutant.bug)}[/bold red]: {escape(verdict.says)}")
        places = ", ".join(edit.place for edit in verdict.mutant.edits)
        console.print(f"{places}\n{tail(verdict.run)}", markup=False)
    caught = len(verdicts) - len(loose)
    console.print(f"{caught} of {len(verdicts)} mutants caught in {time.monotonic() - began:.0f} s")
    return int(bool(loose))


def _try_all(mutants: Sequence[Mutant], jobs: int, console: Console) -> list[Verdict]:
    """Return the verdicts, or none if the tests that must fail on the mutants do not even pass without them."""
    with (
        tempfile.TemporaryDirectory(prefix="interlock-mutants-", ignore_cleanup_errors=True) as folder,
        Progress(*_COLUMNS, console=console, transient=True) as progress,
    ):
        task = progress.add_task("control run", total=len(mutants), last="every node, without a mutant")
        tree = copy_sources(Path(folder) / "control")
        failed = [run for run in control(tree, mutants, jobs=jobs) if run.status != 0]
        for run in failed:
            console.print(f"[bold red]The control run failed[/bold red] (status {run.status}):")
            console.print(tail(run), markup=False)
        if failed:
            return []
        progress.update(task, description="mutants", last="")

        def done(verdict: Verdict) -> None:
            progress.update(task, advance=1, last=f"{escape(verdict.mutant.bug)} {escape(verdict.says)}")

        return try_all(tree, mutants, jobs=jobs, on_verdict=done)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Mutants: bugs seeded into the real code")
    for column in ("bug", "breaks", "caught by"):
        table.add_column(column, overflow="fold")
    table.add_column("seconds", justify="right")
    table.add_column("verdict", overflow="fold")
    for verdict in verdicts:
        mutant, style = verdict.mutant, "green" if verdict.caught else "bold red"
        table.add_row(
            escape(mutant.bug),
            mutant.breaks,
            escape(mutant.caught_by),
            f"{verdict.run.seconds:.1f}",
            f"[{style}]{escape(verdict.says)}[/{style}]",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
