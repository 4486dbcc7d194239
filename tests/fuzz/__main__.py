"""Fuzz for a while: ``python -m tests.fuzz --seconds 300``. Exit status 1 as soon as something is accepted or breaks."""

from __future__ import annotations

import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click
from hypothesis import HealthCheck, seed, settings
from rich.console import Console
from rich.table import Table

from tests.fuzz.targets import TARGETS
from tests.fuzz.world import world

_EXAMPLES = 200
"""Examples of one target before the next one's turn."""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=300.0, show_default=True, help="How long.")
@click.option("--seed", "first", type=int, help="The seed of the first round; drawn if not given.")
def main(seconds: float, first: int | None) -> None:
    """Take turns with all targets until the time is over, at least once each."""
    console = Console(highlight=False)
    rounds = random.SystemRandom().randrange(2**32) if first is None else first
    console.print(f"seed {rounds}")
    deadline = time.monotonic() + seconds
    tries = dict.fromkeys(TARGETS, 0)
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as attacked:
        begun = False
        while not begun or time.monotonic() < deadline:
            begun = True
            for name, make in TARGETS.items():
                before = attacked.tries
                how = settings(
                    max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
                )
                try:
                    seed(rounds)(how(make(attacked)))()
                except BaseException:  # noqa: BLE001  # any error is a finding
                    console.print(f"[bold red]fault[/bold red]: {name}, seed {rounds}")
                    traceback.print_exc()
                    sys.exit(1)
                tries[name] += attacked.tries - before
                attacked.check_untouched()
            rounds += 1
    table = Table("read", "tries")
    for name, count in tries.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print("nothing broke, nothing was accepted")


if __name__ == "__main__":
    main()
