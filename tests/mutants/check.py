"""Check, without running any, that all mutants can still be made."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutant import Mutant, MutantError, edited
from tests.support.source import ROOT


def check(mutants: Sequence[Mutant]) -> list[str]:
    """Return what is wrong with ``mutants``: edits without their place, undefined names, missing tests."""
    faults = [
        f"{bug} There are {count} of it." for bug, count in Counter(each.bug for each in mutants).items() if count > 1
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(mutants):
            try:
                assert mutant.node
                for path, text in edited(mutant, ROOT).items():
                    if path.suffix == ".py":
                        (Path(folder) / f"{number}_{path.name}").write_text(text, encoding="utf-8")
            except MutantError as error:
                faults.append(str(error))
        # Any test catches a mutant with an undefined name, so it would show nothing.
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--output-format=concise"]
        # ast.unparse writes what this Python reads.
        target = f"--target-version=py{sys.version_info.major}{sys.version_info.minor}"
        found = subprocess.run(
            [*command, target, "--select=F821,F823", folder],
            capture_output=True,
            text=True,
            check=False,
        )
    for line in found.stdout.splitlines():
        file, _, fault = line.partition(":")
        faults.append(f"{mutants[int(Path(file).name.partition('_')[0])].bug} {fault}")
    return faults
