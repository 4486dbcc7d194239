"""Validate traces against the model: what real servers did must be an execution of it.

The model of a session is asked about each session, and the model of an execution about each intent. Those that are equal except
for ids and times are asked once. A verifier is compiled once and gets many of them per run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.model.spin import Program, SearchFailed, build, require, workplace
from interlock.spec.model.trace import execution_numbers, session_numbers
from interlock.spec.model.trace.checker import check
from interlock.spec.model.trace.lines import AnyLine, TraceFault
from interlock.spec.model.trace.numbers import Abstract, TooWide
from interlock.spec.model.trace.split import IntentLines, by_intent, by_session

_LINES_AT_ONCE: Final = 20_000
_TIMEOUT_S: Final = 300
_ACCEPTED: Final = "@@ accepted"
_STUCK: Final = "@@ stuck"
_OF: Final = ": "
_EXECUTION: Final = b'"kind":"execution"'

OF_SESSIONS: Final = Program("lifecycle.pml", ("TRACE", f"COMMANDS={session_numbers.COMMANDS}"))
OF_INTENTS: Final = Program("execution.pml", ("TRACE",))

Session = Sequence[Sequence[AnyLine]]
"""The lines of one session or intent, one list per node: see :mod:`interlock.spec.model.trace.split`."""


class Rejection(msgspec.Struct, frozen=True):
    """A session or intent that no execution of the model matches.

    ``stuck`` has, for each node with lines left, the first line that could not be taken. ``promise`` is the property that
    forbids it, in the longest match; empty if it is only that no step of the model writes this line there.
    """

    name: str
    stuck: tuple[AnyLine, ...]
    promise: str


class Judgement(msgspec.Struct, frozen=True):
    """The model's answer: how many it was asked about, how many were different, and which were rejected.

    ``too_wide`` were not asked, because they hold more at a time than the model can distinguish.
    """

    asked: int = 0
    different: int = 0
    rejections: tuple[Rejection, ...] = ()
    too_wide: tuple[str, ...] = ()


class _Asked(msgspec.Struct):
    """What the model is asked about: numbers, and the name and the lines of each that has these numbers."""

    numbers: Abstract
    equal: list[tuple[str, Session]]


@contextmanager
def matcher(program: Program = OF_SESSIONS) -> Iterator[Path]:
    """Compile the matcher of sessions, or another ``program``, in a temporary folder.

    Raises:
        SpinMissing, SearchFailed
    """
    require()
    with workplace(program) as folder:
        # To optimise takes longer than to match thousands of traces, of which few are different.
        build(program, folder, ["-O0", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=4096"])
        yield folder


def judge(folder: Path, sessions: Iterable[tuple[str, Session]]) -> Judgement:
    """Run the matcher in ``folder`` on every session, given as (id, lines).

    Raises:
        SearchFailed: the matcher did not complete.
    """
    return _judge(folder, ((name, lines, partial(session_numbers.abstract, lines)) for name, lines in sessions))


def judge_intents(folder: Path, intents: Iterable[tuple[str, IntentLines]]) -> Judgement:
    """Run the matcher in ``folder``, of :data:`OF_INTENTS`, on every intent, given as (id of its execution, its lines).

    Raises:
        SearchFailed: the matcher did not complete.
    """
    return _judge(
        folder, ((name, intent.lines, partial(execution_numbers.abstract, intent)) for name, intent in intents)
    )


def _judge(folder: Path, parts: Iterable[tuple[str, Session, Callable[[], Abstract]]]) -> Judgement:
    different: dict[tuple[object, ...], _Asked] = {}
    too_wide: list[str] = []
    count = 0
    for name, lines, abstract in parts:
        count += 1
        try:
            numbers = abstract()
        except TooWide:
            too_wide.append(name)
            continue
        asked = different.setdefault((numbers.header, numbers.nodes), _Asked(numbers, []))
        asked.equal.append((name, lines))
    waiting = list(different.values())
    rejections: list[Rejection] = []
    while waiting:
        chunk, waiting = _chunk(waiting)
        while chunk:
            stuck = _match(folder, [asked.numbers for asked in chunk])
            if stuck is None:
                break
            number, taken, promise = stuck
            rejections += _rejections(chunk[number], taken, promise)
            # Those before it were matched; ask about those after it.
            chunk = chunk[number + 1 :]
    return Judgement(count, len(different), tuple(rejections), tuple(too_wide))


Text = Sequence[str | bytes]


class Amount(msgspec.Struct, frozen=True):
    """How many the model was to be asked about, how many were different, and how many hold too much at a time for it."""

    asked: int
    different: int
    too_wide: int


class Validation(msgspec.Struct, frozen=True):
    """The result for a set of traces, each of its own log: how much was checked, and what is wrong, as text."""

    traces: int
    lines: int
    sessions: Amount
    executions: Amount
    faults: tuple[str, ...]


def _log(name: str) -> int:
    """Return the number of the log to which a session or intent belongs."""
    return int(name.partition(_OF)[0])


def _unheard(_name: str) -> None:
    """Ignore progress; the default."""


def validate(logs: Iterable[tuple[str, Sequence[Text]]], *, advance: Callable[[str], None] = _unheard) -> Validation:
    """Check every log's traces, given as (name, the lines of each node), against both the linear rules and the model.

    The two are independent. If one accepts what the other rejects, one of them is wrong, and that is reported as a fault.

    Raises:
        SpinMissing, SearchFailed: the model could not be run.
    """
    faults: list[str] = []
    traces = lines = 0
    condemned: set[int] = set()
    sessions: list[tuple[str, Session]] = []
    intents: list[tuple[str, IntentLines]] = []
    names: list[str] = []
    for number, (name, texts) in enumerate(logs):
        advance(name)
        names.append(name)
        traces += len(texts)
        lines += sum(map(len, texts))
        try:
            check(texts)
        except TraceFault as fault:
            faults.append(f"{name}: {fault}")
            if fault.property == "format":
                continue
            condemned.add(number)
        sessions += [(f"{number}{_OF}session {each}", session) for each, session in by_session(texts).items()]
        if _has_executions(texts):
            intents += [(f"{number}{_OF}execution {each}", intent) for each, intent in by_intent(texts).items()]
    with matcher() as folder:
        of_sessions = judge(folder, sessions)
    of_intents = Judgement()
    if intents:
        with matcher(OF_INTENTS) as folder:
            of_intents = judge_intents(folder, intents)
    rejections = of_sessions.rejections + of_intents.rejections
    too_wide = of_sessions.too_wide + of_intents.too_wide
    rejected = {_log(rejection.name) for rejection in rejections}
    unasked = set(map(_log, too_wide))
    for rejection in rejections:
        at = ", ".join(f"{line.type} by {line.node}" for line in rejection.stuck)
        where = f"{names[_log(rejection.name)]}{_OF}{rejection.name.partition(_OF)[2]}"
        why = f": {rejection.promise}" if rejection.promise else ""
        faults.append(f"{where}: the model has no execution that goes on with {at}{why}")
    faults += [f"{names[log]}: the rules accept it, the model does not" for log in sorted(rejected - condemned)]
    faults += [
        f"{names[log]}: the model accepts it, the rules do not" for log in sorted(condemned - rejected - unasked)
    ]
    for what, judgement in (("session", of_sessions), ("execution", of_intents)):
        if judgement.asked == len(judgement.too_wide) > 0:
            faults.append(f"the model was asked about no {what}: each holds more at a time than it can tell apart")
    return Validation(traces, lines, _amount(of_sessions), _amount(of_intents), tuple(faults))


def _amount(judgement: Judgement) -> Amount:
    return Amount(judgement.asked, judgement.different, len(judgement.too_wide))


def _has_executions(texts: Iterable[Text]) -> bool:
    return any(_EXECUTION in (line.encode() if isinstance(line, str) else line) for text in texts for line in text)


def _chunk(waiting: list[_Asked]) -> tuple[list[_Asked], list[_Asked]]:
    lines = 0
    for end, asked in enumerate(waiting, 1):
        lines += sum(map(len, asked.numbers.nodes))
        if lines >= _LINES_AT_ONCE:
            return waiting[:end], waiting[end:]
    return waiting, []


def _match(folder: Path, chunk: list[Abstract]) -> tuple[int, tuple[int, ...], str] | None:
    """Return None if all were matched, else the first that was not: its index, each node's lines taken, the promise."""
    with (folder / "lines.txt").open("w") as file:
        file.write(f"{len(chunk)}\n")
        for session in chunk:
            file.write(f"{session.header}\n")
            for lines in session.nodes:
                file.write(f"{len(lines)}\n")
                file.writelines(" ".join(str(int(number)) for number in line) + "\n" for line in lines)
    done = subprocess.run(  # noqa: S603  # our own command
        ["./pan", "-E", "-b", "-n", f"-m{40 * _LINES_AT_ONCE}", "-w22"],
        cwd=folder,
        env={"INTERLOCK_LINES": "lines.txt"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    verdict = next((line for line in done.stdout.splitlines() if line.startswith("@@")), "")
    if "max search depth" in done.stdout or not verdict.startswith((_ACCEPTED, _STUCK)):
        raise SearchFailed(f"the matcher did not come to an end: {(done.stdout + done.stderr)[-500:]}")
    if verdict.startswith(_ACCEPTED):
        return None
    _, _, number, first, second, *promise = verdict.split()
    return int(number), (int(first), int(second)), " ".join(promise)


def _rejections(asked: _Asked, taken: tuple[int, ...], promise: str) -> list[Rejection]:
    origin = asked.numbers.origin
    found = []
    for name, session in asked.equal:
        stuck = tuple(
            lines[origin[node][taken[node]]] for node, lines in enumerate(session) if taken[node] < len(origin[node])
        )
        found.append(Rejection(name, stuck, promise or _WAITS.get(stuck[0].type, "")))
    return found


# In a session, no promise forbids a line that waits for something that never became durable.
_WAITS: Final = {"ack": "acknowledged_logged"}
