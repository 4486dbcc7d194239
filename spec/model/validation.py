"""Validate traces against the model: what real servers did must be an execution of it.

Sessions that are equal except for ids and times are asked once. The verifier is compiled once and gets many sessions per run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.model.abstraction import COMMANDS, NODES, Abstract, TooWide, abstract
from interlock.spec.model.lines import AnyLine, TraceFault
from interlock.spec.model.spin import Program, SearchFailed, build, require, workplace
from interlock.spec.model.traces import by_session, check

_LINES_AT_ONCE: Final = 20_000
_TIMEOUT_S: Final = 300
_ACCEPTED: Final = "@@ accepted"
_STUCK: Final = "@@ stuck"
_OF: Final = ": session "

Session = Sequence[Sequence[AnyLine]]
"""The lines of one session, one list per node: see :func:`interlock.spec.model.traces.by_session`."""


class Rejection(msgspec.Struct, frozen=True):
    """A session that no execution of the model matches.

    ``stuck`` has, for each node with lines left, the first line that could not be taken. ``promise`` is the property that
    forbids it, in the longest match.
    """

    session_id: str
    stuck: tuple[AnyLine, ...]
    promise: str


class Judgement(msgspec.Struct, frozen=True):
    """The model's answer: the number of sessions, how many were different, and which were rejected.

    ``too_wide`` were not asked, because they hold more at a time than the model can distinguish.
    """

    sessions: int
    different: int
    rejections: tuple[Rejection, ...]
    too_wide: tuple[str, ...]


@contextmanager
def matcher() -> Iterator[Path]:
    """Compile the matcher in a temporary folder.

    Raises:
        SpinMissing, SearchFailed
    """
    require()
    program = Program("lifecycle.pml", ("TRACE", f"COMMANDS={COMMANDS}"))
    with workplace(program) as folder:
        build(program, folder, ["-O2", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=4096"])
        yield folder


def judge(folder: Path, sessions: Iterable[tuple[str, Session]]) -> Judgement:
    """Run the matcher in ``folder`` on every session, given as (id, lines).

    Raises:
        SearchFailed: the matcher did not complete.
    """
    different: dict[tuple[object, ...], tuple[str, Session, Abstract]] = {}
    too_wide: list[str] = []
    count = 0
    for session_id, session in sessions:
        count += 1
        try:
            numbers = abstract(session)
        except TooWide:
            too_wide.append(session_id)
            continue
        if len(session) > NODES:
            too_wide.append(session_id)
            continue
        different.setdefault((numbers.limit, numbers.nodes), (session_id, session, numbers))
    waiting = list(different.values())
    rejections: list[Rejection] = []
    while waiting:
        chunk, waiting = _chunk(waiting)
        while chunk:
            stuck = _match(folder, [numbers for _, _, numbers in chunk])
            if stuck is None:
                break
            number, taken, promise = stuck
            rejections.append(_rejection(*chunk[number], taken, promise))
            # The sessions before it were matched; ask about those after it.
            chunk = chunk[number + 1 :]
    return Judgement(count, len(different), tuple(rejections), tuple(too_wide))


Asked = tuple[str, Session, Abstract]
Text = Sequence[str | bytes]


class Validation(msgspec.Struct, frozen=True):
    """The result for a set of traces, each of its own log: how much was checked, and what is wrong, as text."""

    traces: int
    lines: int
    sessions: int
    different: int
    too_wide: int
    faults: tuple[str, ...]


def _log(asked: str) -> int:
    """Return the number of the log to which a session belongs."""
    return int(asked.partition(_OF)[0])


def _unheard(_name: str) -> None:
    """Ignore progress; the default."""


def validate(logs: Iterable[tuple[str, Sequence[Text]]], *, advance: Callable[[str], None] = _unheard) -> Validation:
    """Check every log's traces, given as (name, the lines of each node), against both the linear rules and the model.

    The two are independent. If one accepts what the other rejects, one of them is wrong, and that is reported as a fault.

    Raises:
        SpinMissing, SearchFailed: the model could not be run.
    """
    faults: list[str] = []
    traces = lines = number = 0
    condemned: set[int] = set()
    asked: list[tuple[str, Session]] = []
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
        asked += [(f"{number}{_OF}{session_id}", session) for session_id, session in by_session(texts).items()]
    with matcher() as folder:
        judgement = judge(folder, asked)
    rejected = {_log(rejection.session_id) for rejection in judgement.rejections}
    unasked = {_log(session_id) for session_id in judgement.too_wide}
    for rejection in judgement.rejections:
        at = ", ".join(f"{line.kind} by {line.node}" for line in rejection.stuck)
        where = f"{names[_log(rejection.session_id)]}{_OF}{rejection.session_id.partition(_OF)[2]}"
        faults.append(f"{where}: the model has no execution that goes on with {at}: {rejection.promise}")
    faults += [f"{names[log]}: the rules accept it, the model does not" for log in sorted(rejected - condemned)]
    faults += [
        f"{names[log]}: the model accepts it, the rules do not" for log in sorted(condemned - rejected - unasked)
    ]
    if judgement.sessions == len(judgement.too_wide) > 0:
        faults.append("the model was asked about no session: each holds more at a time than it can tell apart")
    return Validation(traces, lines, judgement.sessions, judgement.different, len(judgement.too_wide), tuple(faults))


def _chunk(waiting: list[Asked]) -> tuple[list[Asked], list[Asked]]:
    lines = 0
    for end, (_, _, numbers) in enumerate(waiting, 1):
        lines += sum(map(len, numbers.nodes))
        if lines >= _LINES_AT_ONCE:
            return waiting[:end], waiting[end:]
    return waiting, []


def _match(folder: Path, chunk: list[Abstract]) -> tuple[int, tuple[int, ...], str] | None:
    """Return None if all were matched, else the first that was not: its index, each node's lines taken, the promise."""
    with (folder / "lines.txt").open("w") as file:
        file.write(f"{len(chunk)}\n")
        for session in chunk:
            file.write(f"{session.limit}\n")
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


def _rejection(session_id: str, session: Session, numbers: Abstract, taken: tuple[int, ...], promise: str) -> Rejection:
    stuck = tuple(
        lines[numbers.origin[node][taken[node]]]
        for node, lines in enumerate(session)
        if taken[node] < len(numbers.origin[node])
    )
    # No promise forbids it: the line waits for something that never became durable.
    waits = {"ack": "acknowledged_logged", "append": "versions_gapless"}.get(stuck[0].kind, "cache_is_fold")
    return Rejection(session_id, stuck, promise or waits)
