"""Run Spin: build the verifier, run it to completion, and parse its output.

An incomplete search proves nothing, so it is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.export import GENERATED, LIFECYCLES
from interlock.spec.promela import promela
from interlock.spec.transitions import Lifecycle

MODEL: Final = Path(__file__).parent
"""The folder of the model."""

CYCLE: Final = "START OF CYCLE"
"""The line in a liveness counterexample after which the steps repeat."""

_VECTOR_BYTES: Final = 4096
# Exit codes of timeout(1) when the time is up, and when its command was killed.
_TIMED_OUT: Final = 124
_KILLED: Final = 137
_TOLD_LINE: Final = "@ "
_TELLS: Final = re.compile(r"TELL\d\((\w+),")
_TOLD: Final = re.compile(r"@@ told (\w+)")
_TAKEN: Final = re.compile(r"@@ taken (\d+)")
_PROGRESS: Final = re.compile(r"States=\s*([\d.e+]+)")


class SpinMissing(RuntimeError):
    """Spin or gcc is not installed."""


class SearchFailed(RuntimeError):
    """The search did not complete, so there is no result. The message says why."""


def _unheard(_states: int) -> None:
    """Ignore progress; the default."""


class SearchResult(msgspec.Struct, frozen=True):
    """The result of a complete search. ``story`` has the told steps of the counterexample; empty if every promise holds."""

    states: int
    transitions: int
    depth: int
    seconds: float
    megabytes: float
    story: tuple[str, ...]
    untold: frozenset[str]
    """The steps that the model can tell and no execution reached."""
    taken: frozenset[int]
    """The numbers of the declared transitions that executions recorded; see :func:`interlock.spec.promela.promela`."""

    @property
    def broken(self) -> bool:
        """Whether a property is broken."""
        return bool(self.story)


class Program(msgspec.Struct, frozen=True):
    """A model with its macros. ``files`` replaces or adds files by name (for a mutated declaration)."""

    model: str
    defines: tuple[str, ...]
    claim: str | None = None
    files: dict[str, str] = {}


def require() -> None:
    """Check that Spin and gcc are installed.

    Raises:
        SpinMissing: one of them is missing; the message says how to install it.
    """
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        raise SpinMissing(f"{' and '.join(missing)} not found; on Debian and Ubuntu: apt-get install spin gcc")


def relation(lifecycle: Lifecycle) -> str:
    """Return the file name under which a model includes the declared transitions of ``lifecycle``."""
    return f"{GENERATED.name}/{lifecycle.name}.pml"


@contextmanager
def workplace(program: Program) -> Iterator[Path]:
    """Create a temporary folder with the model in it."""
    with tempfile.TemporaryDirectory(prefix="interlock-spin-") as name:
        folder = Path(name)
        for path in (*MODEL.glob("*.pml"), *MODEL.glob("*.h")):
            (folder / path.name).write_bytes(path.read_bytes())
        # From the current declarations, because the generated files may be stale.
        relations = {relation(lifecycle): promela(lifecycle) for lifecycle in LIFECYCLES}
        (folder / GENERATED.name).mkdir()
        for file, text in {**relations, **program.files}.items():
            (folder / file).write_text(text, encoding="utf-8")
        yield folder


def verify(
    program: Program,
    *,
    shortest: bool = False,
    optimisation: int = 1,
    timeout_s: float,
    progress: Callable[[int], None] = _unheard,
) -> SearchResult:
    """Search every execution of ``program``.

    ``shortest`` searches breadth first, which gives the shortest counterexample. It needs more memory and works only for
    safety. ``optimisation`` is gcc's level: 2 is for minutes of searching, 0 for a moment, which compiling would outlast.
    ``progress`` is called with the number of states so far.

    Raises:
        SpinMissing, SearchFailed
    """
    require()
    with workplace(program) as folder:
        flags = [f"-O{optimisation}", "-DVECTORSZ=" + str(_VECTOR_BYTES), "-DNFAIR=3"]
        if program.claim is None:
            flags.append("-DSAFETY")
        if shortest:
            flags.append("-DBFS")
        build(program, folder, flags)
        # Filling a large hash table takes longer than most short searches.
        options = ["-E", "-m2000000", "-b", f"-w{24 if optimisation else 20}"]
        if program.claim is not None:
            options += ["-a", "-f"]
        output = _run(["./pan", *options], folder, timeout_s, progress)
        story = _story(folder) if (folder / f"{program.model}.trail").exists() else ()
        return _read(output, story, _can_tell(program, folder))


def build(program: Program, folder: Path, flags: list[str]) -> None:
    """Build ``pan``, the verifier of ``program``, in ``folder``.

    Raises:
        SearchFailed: Spin does not accept the model.
    """
    defines = _defines(program)
    _call(["spin", "-a", *defines, program.model], folder)
    _call(["gcc", "-w", *flags, "-o", "pan", "pan.c"], folder)


def _defines(program: Program) -> list[str]:
    claim = ["LIVENESS", f"CLAIM_{program.claim}"] if program.claim else []
    return [f"-D{define}" for define in (*program.defines, *claim)]


def step_names() -> dict[int, str]:
    """Return Spin's number for each name in ``promises.pml``. Spin counts from the last name."""
    block = (MODEL / "promises.pml").read_text(encoding="utf-8").partition("mtype = {")[2].partition("}")[0]
    names = re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", block, flags=re.DOTALL))
    return dict(enumerate(reversed(names), 1))


def _can_tell(program: Program, folder: Path) -> frozenset[str]:
    """Return every step that the model can tell, from the files that it includes."""
    found: set[str] = set()
    waiting = [program.model]
    while waiting:
        text = (folder / waiting.pop()).read_text(encoding="utf-8")
        waiting += [n for n in re.findall(r'^#include "(\w+\.pml)"', text, re.MULTILINE) if n != "promises.pml"]
        found |= set(_TELLS.findall(text))
    return frozenset(found)


def _call(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  # our own commands
    if done.returncode != 0:
        raise SearchFailed(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def _run(command: list[str], folder: Path, timeout_s: float, progress: Callable[[int], None]) -> str:
    lines: list[str] = []
    # timeout(1) ends the verifier, because reading its output has no timeout. pdeathsig ends it with the waiting thread.
    bound = ["setpriv", "--pdeathsig", "KILL"]
    with subprocess.Popen(  # noqa: S603  # our own commands
        [*bound, "timeout", str(timeout_s), *bound, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        for line in process.stdout:
            lines.append(line)
            if found := _PROGRESS.search(line):
                progress(int(float(found[1])))
    output = "".join(lines)
    if process.returncode == _TIMED_OUT:
        raise SearchFailed(f"not finished within {timeout_s:g} s")
    if process.returncode in {-9, _KILLED}:
        raise SearchFailed("it was killed, perhaps for want of memory")
    return output


def _read(output: str, story: tuple[str, ...], can_tell: frozenset[str]) -> SearchResult:
    for trouble in ("max search depth too small", "out of memory", "hash table full", "aborting"):
        if trouble in output:
            raise SearchFailed(trouble)
    found = re.search(r"State-vector .* depth reached (\d+), errors: (\d+)", output)
    if found is None:
        raise SearchFailed(output.strip()[-2000:] or "the verifier said nothing")
    if bool(int(found[2])) != bool(story):
        raise SearchFailed("the verifier reports an error and has no trail, or the other way round")
    return SearchResult(
        states=_number(r"(\d+) states, stored", output),
        transitions=_number(r"(\d+) transitions", output),
        depth=int(found[1]),
        seconds=float(_search(r"elapsed time ([\d.e+-]+) seconds", output) or 0),
        megabytes=float(_search(r"([\d.]+)\s+total actual memory usage", output) or 0),
        story=story,
        untold=can_tell - set(_TOLD.findall(output)),
        taken=frozenset(map(int, _TAKEN.findall(output))),
    )


def _story(folder: Path) -> tuple[str, ...]:
    """Return the trail as told by the model: its own lines, and where a cycle begins.

    Raises:
        SearchFailed: the trail tells nothing.
    """
    replayed = subprocess.run(["./pan", "-r", "-S"], cwd=folder, capture_output=True, text=True, check=False).stdout
    lines = [line.strip() for line in replayed.splitlines()]
    story = tuple(_step(line) for line in lines if line.startswith(_TOLD_LINE) or CYCLE in line)
    if not story:
        raise SearchFailed("the trail of the counterexample tells nothing")
    return story


def _step(line: str) -> str:
    """Return a told step with names instead of numbers, for the step itself and for a broken promise."""
    if not line.startswith(_TOLD_LINE):
        return CYCLE
    names = step_names()
    what, *rest = line.removeprefix(_TOLD_LINE).split()
    name = names[int(what)]
    return " ".join([name, *([names[int(rest[0])]] if name == "broken" else rest)])


def _search(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _number(pattern: str, text: str) -> int:
    return int(_search(pattern, text) or 0)
