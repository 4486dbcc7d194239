"""The table: on the terminal, and in the documentation between its two markers."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pysqlite3
from rich.table import Table

from tests.bench.figure import BenchError, Figure

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
_BEGIN: Final = "<!-- bench: begin. Written by `python -m tests.bench --write`; edits are lost. -->"
_END: Final = "<!-- bench: end -->"
_HEAD: Final = "| figure | ours | compared with | ratio | bar | reached | detail | measured |"
_COMMAND: Final = re.compile(r"--only ([a-z-]+)`")


def show(name: str, figures: Iterable[Figure], table: Table | None = None) -> Table:
    """Add ``figures`` to the table for the terminal; the caller prints it."""
    if table is None:
        table = Table(title=f"Interlock, measured on {machine()}", show_lines=True)
        for column in ("name", "figure", "ours", "ceiling", "ratio", "bar", "reached?", "detail"):
            table.add_column(column, overflow="fold", ratio=3 if column in {"figure", "detail"} else 1)
    for row in figures:
        mark = {True: "[green]yes[/green]", False: "[bold red]no[/bold red]", None: ""}[row.reached]
        table.add_row(name, row.title, row.ours, row.ceiling, row.ratio, row.bar, mark, row.note)
    return table


def write(measured: Mapping[str, list[Figure]], order: Iterable[str]) -> None:
    """Replace the page's rows of the figures in ``measured``, and keep the others."""
    text = PAGE.read_text()
    before, begin, rest = text.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    if not begin or not end:
        raise BenchError(f"{PAGE} lacks the markers of the table")
    rows: dict[str, list[str]] = {}
    for line in old.splitlines():
        match = _COMMAND.search(line)
        if match is not None:
            rows.setdefault(match[1], []).append(line)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    rows.update({name: [_row(name, figure, today) for figure in figures] for name, figures in measured.items()})
    lines = [line for name in order for line in rows.get(name, [])]
    table = "\n".join([_HEAD, "|---" * _HEAD.count(" | ") + "|---|", *lines])
    PAGE.write_text(f"{before}{_BEGIN}\n\nLast written on {machine()}.\n\n{table}\n\n{_END}{after}")


def machine() -> str:
    """Describe the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {pysqlite3.sqlite_version}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _row(name: str, row: Figure, today: str) -> str:
    reached = {True: "yes", False: "**no**", None: ""}[row.reached]
    command = f"{today}, `python -m tests.bench --only {name}`"
    cells = [row.title, row.ours, row.ceiling, row.ratio, row.bar, reached, row.note, command]
    return f"| {' | '.join(cells)} |"
