"""Running mutants: a copy of the sources for each, one pytest node in it, and a verdict."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import msgspec

from tests.mutants.forking import Request
from tests.mutants.mutant import Mutant, MutantError, apply

ROOT: Final = Path(__file__).parents[2]
LIMIT_S: Final = 300.0
"""Time limit of one mutant's node."""
CONTROL_LIMIT_S: Final = 600.0
"""Time limit of the control run of all nodes."""
CAUGHT: Final = "caught"

_COPIED: Final = (
    "interlock",
    "spec",
    "machine",
    "server",
    "tests",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
)
_ENVIRONMENT: Final = {
    "COLUMNS": "200",
    "HYPOTHESIS_PROFILE": "quick",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
_DROPPED: Final = ("COVERAGE", "COV_", "PYTEST", "PYTHONDONTWRITEBYTECODE", "TEST_TRACES")
"""The control run leaves bytecode for the others. No mutant's trace is held against the model."""
_TEST_LIMIT_S: Final = 5.0
"""The test's own limit soon catches a mutant that leaves a caller waiting for ever."""
_LEFT: Final = ".left"
"""The folder of what runs leave behind."""
_TESTS_FAILED: Final = 1
_BROKEN: Final = re.compile(r"^E +(NameError|UnboundLocalError|ImportError|SyntaxError)\b.*", re.MULTILINE)
"""Failures of tests whose code is broken altogether."""
_TAIL: Final = 4000


class Run(msgspec.Struct, frozen=True):
    """What pytest did. ``status`` is None if it ran out of time."""

    status: int | None
    output: str
    seconds: float


class Verdict(msgspec.Struct, frozen=True):
    """The verdict on one mutant. ``says`` is :data:`CAUGHT`, or why it does not count as caught."""

    mutant: Mutant
    says: str
    run: Run

    @property
    def caught(self) -> bool:
        return self.says == CAUGHT


def copy_sources(folder: Path) -> Path:
    """Copy the sources, without the leftovers of earlier runs, into a new folder ``folder``."""
    folder.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            left = shutil.ignore_patterns("__pycache__", ".hypothesis", "_build")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=left)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def control(tree: Path, mutants: Iterable[Mutant], *, jobs: int) -> list[Run]:
    """Run every node on the unchanged sources, in ``jobs`` parts at once. They must pass, or a later failure shows nothing."""
    parts = _parts(sorted({mutant.node for mutant in mutants}), jobs)

    def run(part: int) -> Run:
        limits = {"limit_s": CONTROL_LIMIT_S, "test_limit_s": CONTROL_LIMIT_S}
        with running() as runner:
            return runner.run(tree, parts[part], name=f"control-{part}", **limits)

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, range(len(parts))))


def _parts(nodes: Iterable[str], count: int) -> list[list[str]]:
    """Divide ``nodes`` into at most ``count`` parts. A file's nodes stay together, since they may share a server."""
    files: dict[str, list[str]] = {}
    for node in nodes:
        files.setdefault(node.partition("::")[0], []).append(node)
    parts: list[list[str]] = [[] for _ in range(min(count, len(files)))]
    for part, file in zip(itertools.cycle(parts), files.values(), strict=False):
        part.extend(file)
    return parts


def try_all(
    tree: Path, mutants: Sequence[Mutant], *, jobs: int, on_verdict: Callable[[Verdict], None]
) -> list[Verdict]:
    """Return the verdict on each of ``mutants``, in order. ``tree`` is a copy that passed the control run.

    Raises:
        MutantError: one can't be made.
    """
    # Try all edits first, so that an impossible mutant shows at once.
    folders = []
    for mutant in mutants:
        folders.append(tree.with_name(mutant.name))
        _link(tree, folders[-1])
        apply(mutant, folders[-1])
    with ExitStack() as runners, ThreadPoolExecutor(jobs) as pool:
        idle = SimpleQueue[Runner]()
        for _ in range(jobs):
            idle.put(runners.enter_context(running()))
        futures = {
            pool.submit(_try, mutant, folder, idle): mutant.name
            for mutant, folder in zip(mutants, folders, strict=True)
        }
        verdicts = {}
        for future in as_completed(futures):
            verdicts[futures[future]] = future.result()
            on_verdict(future.result())
    return [verdicts[mutant.name] for mutant in mutants]


class Runner:
    """Runs nodes with pytest, one run at a time, in processes that a prepared one forks (:mod:`tests.mutants.forking`)."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forking.py")],
            env={**kept, **_ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.communicate()

    def run(
        self,
        tree: Path,
        nodes: Sequence[str],
        *,
        name: str = "trial",
        limit_s: float = LIMIT_S,
        test_limit_s: float = _TEST_LIMIT_S,
    ) -> Run:
        """Run ``nodes`` in ``tree``. Leave none of its processes running, even after a timeout.

        ``name`` tells the files of runs that share a tree apart.
        """
        # The same examples each time, so that no verdict depends on luck.
        options = ["-q", "-x", "--tb=short", "--hypothesis-seed=0", f"--basetemp={tree / _LEFT / name}"]
        # Only the plug-in that is needed: the others take longer to load than most nodes to run.
        options += ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
        (tree / _LEFT).mkdir(exist_ok=True)
        output = tree / _LEFT / f"{name}.txt"
        request: Request = {
            "tree": str(tree),
            "arguments": [*options, *nodes],
            "output": str(output),
            "limit_s": limit_s,
            "variables": {"PYTHONPATH": str(tree), "TEST_LIMIT_S": str(test_limit_s)},
        }
        began = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        return Run(status, output.read_text(encoding="utf-8", errors="replace"), time.monotonic() - began)


@contextmanager
def running() -> Iterator[Runner]:
    """Return a runner, until the context ends."""
    runner = Runner()
    try:
        yield runner
    finally:
        runner.close()


def tail(run: Run) -> str:
    """Return the end of pytest's output."""
    return run.output[-_TAIL:].strip()


def judge(mutant: Mutant, run: Run) -> str:
    """Return :data:`CAUGHT`, or why the mutant is not."""
    if run.status is None:
        return "ran out of time"
    if run.status == 0:
        return "SURVIVED"
    if run.status != _TESTS_FAILED:
        return f"no verdict: pytest ended with status {run.status}"
    if raised := _BROKEN.search(run.output):
        return f"no bug but broken code: {raised[0]}"
    if mutant.says not in run.output:
        return f"failed without saying {mutant.says!r}"
    return CAUGHT


def _try(mutant: Mutant, folder: Path, idle: SimpleQueue[Runner]) -> Verdict:
    runner = idle.get()
    try:
        run = runner.run(folder, [mutant.node])
    finally:
        idle.put(runner)
    shutil.rmtree(folder, ignore_errors=True)
    return Verdict(mutant, judge(mutant, run), run)


def _link(tree: Path, folder: Path) -> None:
    """Link a copy of ``tree``, which takes no space, with the bytecode of the control run."""
    if folder.exists():
        raise MutantError(f"two mutants are called {folder.name}")
    left = shutil.ignore_patterns(_LEFT, ".hypothesis")
    shutil.copytree(tree, folder, symlinks=True, copy_function=os.link, ignore=left)
