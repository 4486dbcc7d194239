"""Run all checks and mutants, several at a time, and report each result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Final

import msgspec

from interlock.spec.model.checks import CHECKS, Check
from interlock.spec.model.mutants.programs import Mutant, program
from interlock.spec.model.mutants.seeded import MUTANTS
from interlock.spec.model.spin import Program, SearchFailed, SearchResult, verify
from interlock.spec.model.story import describe
from interlock.spec.transitions import Lifecycle

_QUICK_S: Final = 600
_DEEP_S: Final = 4 * 3600

Progress = Callable[[str, int], None]
"""Called with a check's name and the number of states so far."""


def _unheard(_name: str, _states: int) -> None:
    """Ignore progress; the default."""


class Result(msgspec.Struct, frozen=True):
    """The result of one check or mutant.

    ``good``: the check found no broken promise, or the mutant was caught by its property. ``story`` is the counterexample in
    words. ``trouble`` says why there is no result, or what is wrong.
    """

    name: str
    kind: str
    properties: tuple[str, ...]
    good: bool
    outcome: SearchResult | None = None
    story: tuple[str, ...] = ()
    trouble: str = ""


def check_all(*, deep: bool, jobs: int, only: Sequence[str] = (), progress: Progress = _unheard) -> Iterator[Result]:
    """Run the checks (those named ``only``, if any), ``jobs`` at a time. Yield each result when it is available."""
    chosen = [check for check in CHECKS if not only or check.name in only]
    yield from _spread([partial(_check, check, progress, deep=deep) for check in chosen], jobs)


def catch_all(*, jobs: int, only: Sequence[str] = (), progress: Progress = _unheard) -> Iterator[Result]:
    """Run the mutants of declarations and model (those named ``only``, if any), ``jobs`` at a time."""
    chosen = [mutant for mutant in MUTANTS if not only or mutant.name in only]
    yield from _spread([partial(_catch, mutant, progress) for mutant in chosen], jobs)


def _spread(tasks: list[Callable[[], Result]], jobs: int) -> Iterator[Result]:
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for done in as_completed([pool.submit(task) for task in tasks]):
            yield done.result()


def _check(check: Check, progress: Progress, *, deep: bool) -> Result:
    described = Result(check.name, "check", check.properties, good=False)
    run = Program(check.model, tuple(check.defines(deep=deep)), check.claim)
    try:
        outcome = verify(
            run,
            optimisation=2 if deep else 1,
            timeout_s=_DEEP_S if deep else _QUICK_S,
            progress=lambda n: progress(check.name, n),
        )
        if outcome.broken and check.claim is None:
            # Search again breadth first, for the shortest story of the fault.
            outcome = verify(run, shortest=True, timeout_s=_QUICK_S)
    except SearchFailed as failed:
        return msgspec.structs.replace(described, trouble=str(failed))
    if outcome.broken:
        return msgspec.structs.replace(described, outcome=outcome, story=tuple(describe(outcome.story, check.claim)))
    if outcome.untold != check.untold:
        never = ", ".join(sorted(outcome.untold - check.untold)) or f"nothing, but not {sorted(check.untold)}"
        vacuous = f"never reached: {never}; what is never tried is not checked"
        return msgspec.structs.replace(described, outcome=outcome, trouble=vacuous)
    if check.covers and (rows := _untaken(check.covers, outcome)):
        vacuous = f"never recorded: {', '.join(rows)}; what is never tried is not checked"
        return msgspec.structs.replace(described, outcome=outcome, trouble=vacuous)
    return msgspec.structs.replace(described, outcome=outcome, good=True)


def _untaken(lifecycle: Lifecycle, outcome: SearchResult) -> list[str]:
    """Return the declared transitions that no execution recorded."""
    rows = enumerate(lifecycle.transitions, 1)
    return [
        f"{row.event} ({row.source or 'none'} → {row.target})" for number, row in rows if number not in outcome.taken
    ]


def _catch(mutant: Mutant, progress: Progress) -> Result:
    described = Result(mutant.name, f"mutant of the {mutant.kind()}", (mutant.promise,), good=False)
    try:
        check, mutated = program(mutant)
        outcome = verify(
            mutated,
            shortest=check.claim is None,
            optimisation=0,
            timeout_s=_QUICK_S,
            progress=lambda states: progress(mutant.name, states),
        )
    except (SearchFailed, ValueError) as failed:
        return msgspec.structs.replace(described, trouble=str(failed))
    story = tuple(describe(outcome.story, check.claim)) if outcome.broken else ()
    caught = bool(story) and story[-1].startswith(f"This breaks {mutant.promise}:")
    trouble = "" if caught else "survived" if not story else "caught by another property"
    return msgspec.structs.replace(described, outcome=outcome, story=story, good=caught, trouble=trouble)
