"""Rules for each record of an execution, given the lines before it. They share no code with the machine.

There is one :class:`Execution` per execution, a separate fold over the recorded data. The declared rows come from
:mod:`interlock.spec.lifecycles`; the guards are evaluated here, as they are described there. Each rule names its property.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interlock.spec.lifecycles import EXECUTION
from interlock.spec.model.trace.lines import Append
from interlock.spec.model.trace.process import Broken, Process
from interlock.spec.model.trace.session_facts import GUARDS as SESSION_GUARDS
from interlock.spec.model.trace.session_rules import Fold
from interlock.spec.model.trace.versions import Ended, Versions

FINAL: Final = frozenset(state.name for state in EXECUTION.states if state.final)
OF_AN_ATTEMPT: Final = frozenset({"succeed", "fail", "interrupt"})
"""The events whose data names the attempt that they are about."""

_MAX_ATTEMPTS: Final = 5

_ROWS: Final = {(row.event, row.source, row.target): row.guards for row in EXECUTION.transitions}


class Execution(Versions):
    """One execution: the fold of its durable records.

    ``running`` names the node and the attempt that run it now, (None, None) if none does. ``runner`` is the process that has
    started this attempt, and ``lost`` says that it has begun another life since.
    """

    __slots__ = (
        "attempt",
        "cancels",
        "intent",
        "lost",
        "repeatable",
        "runner",
        "running",
        "session_id",
        "state",
        "stores",
    )

    def __init__(self, execution_id: str, processes: int) -> None:
        super().__init__(("execution", execution_id), processes)
        self.state: str | None = None
        self.session_id = ""
        self.intent = ("", "")
        self.repeatable = False
        self.stores = False
        self.cancels = False
        self.attempt = 0
        self.running: tuple[str | None, int | None] = (None, None)
        self.runner: Process | None = None
        self.lost = False

    @property
    def ended(self) -> bool:
        """See :attr:`Versions.ended`."""
        return self.state in FINAL

    def begin_life(self, process: Process) -> None:
        """Process a restart: the process's attempt is lost, and it has read the log."""
        self.lost = self.lost or self.runner is process
        super().begin_life(process)

    def recovered(self, process: Process) -> None:
        """Process a ``recover``: the process has interrupted its former life's attempts, but for what a realm's store decides.

        Raises:
            Broken: such an attempt still counts as running.
        """
        if self.lost and self.runner is process and not self.stores:
            raise Broken(
                "outcome_reaches_client",
                f"{process.node} has recovered, but {self.name} still is running, as attempt {self.attempt} of a former life",
            )

    def append(self, line: Append, process: Process, session: Fold | Ended | None) -> None:
        """Process a durable record. ``session`` is the session in which the intent was submitted, if the traces have it.

        Raises:
            Broken: the record does not follow, is not declared, or is recorded under an authority that is lost.
        """
        self.check_next(line)
        if line.event == "accept" and self.state is not None:
            raise Broken("accepted_once", f"{self.name} was accepted again")
        if not process.recovered and not line.late:
            self._check_recovering(line, process)
        self._check_attempt(line, process)
        self._check_declared(line)
        self._check_authority(line, session)
        self.check_time(line)
        self._evolve(line, process)
        self.advance(line, process)

    def _check_recovering(self, line: Append, process: Process) -> None:
        if line.event not in OF_AN_ATTEMPT or not self.lost or self.runner is not process:
            raise Broken(
                "crashed_recovers",
                f"{line.node} recorded {line.event} in a life that has not recovered yet; only what becomes of its own"
                " former attempts comes before",
            )

    def _check_attempt(self, line: Append, process: Process) -> None:
        if line.event == "start":
            if line.late:
                # The life that died may have had another node name.
                process.names.add(line.data["node"])
            elif line.data["node"] != line.node:
                raise Broken("owner_only", f"{line.node} recorded a start in the name of {line.data['node']}")
        elif line.event == "interrupt" and self.runner is not None and not (self.lost and self.runner is process):
            raise Broken(
                "owner_only",
                f"{line.node} recorded an interrupt of attempt {self.attempt} of {self.name}, which may still be running",
            )

    def _check_declared(self, line: Append) -> None:
        terms = _ROWS.get((line.event, line.source, line.target))
        if terms is None or line.source != self.state:
            raise Broken(
                "declared_only",
                f"{line.event} from {line.source} to {line.target} is not declared"
                if terms is None
                else f"{line.event} from {line.source}, but the execution is {self.state}",
            )
        for term in terms:
            if GUARDS[term.name](self, line.data) != term.expected:
                promise = "owner_only" if term.name == "owner" else "declared_only"
                raise Broken(promise, f"{line.event} was recorded, but the guard {term} does not hold")

    def _check_authority(self, line: Append, session: Fold | Ended | None) -> None:
        """Check that the session serves where the log has this record. Only its place counts, not who was told when."""
        session_id = line.data["session_id"] if line.event == "accept" else self.session_id
        # The result of a transactional execution counts once its realm's store has committed it.
        if line.event not in needs_session(cancels=self.cancels and not self.stores):
            return
        if session is None:
            if line.late:
                # A new trace of an old log lacks the sessions that had ended before it.
                return
            raise Broken(
                "no_execution_after_fence",
                f"{line.event} was recorded in session {session_id}, which ended before the traces begin, or never existed",
            )
        if session.ended:
            raise Broken("no_execution_after_fence", f"{line.event} was recorded in session {session_id} after its end")
        subject = line.data["subject"] if line.event == "accept" else self.intent[0]
        if not serves(session, subject, line.at_ms):
            raise Broken(
                "authority_at_append",
                f"{line.event} was recorded at {line.at_ms} for {subject} in session {session_id}, which was overdue then, or"
                " is not theirs",
            )

    def _evolve(self, line: Append, process: Process) -> None:
        self.state = line.target
        if line.event == "start":
            self.attempt += 1
            self.running = (line.data["node"], self.attempt)
            # A late start's life is over.
            self.runner, self.lost = process, line.late
        else:
            self.running, self.runner, self.lost = (None, None), None, False
        if line.event == "accept":
            data = line.data
            self.session_id, self.intent = data["session_id"], (data["subject"], data["intent_id"])
            self.stores = data["effects"] == "transactional"
            self.repeatable = data["effects"] in {"idempotent", "transactional"}
            self.cancels = data["on_session_end"] == "cancel"


GUARDS: Final[dict[str, Callable[[Execution, dict[str, Any]], bool]]] = {
    "owner": lambda execution, data: (data.get("node"), data.get("attempt")) == execution.running,
    "repeatable": lambda execution, _: execution.repeatable and execution.attempt < _MAX_ATTEMPTS,
}
"""Each declared guard over the fold and the data, implemented from its description, not from the machine."""


def needs_session(*, cancels: bool) -> frozenset[str]:
    """Return the events of an execution that are recorded under its session's authority.

    ``cancels``: the end of the session cancels the execution, whatever its code does.
    """
    return frozenset({"accept", "start", "succeed"}) if cancels else frozenset({"accept", "start"})


def serves(session: Fold | Ended | None, subject: str, at_ms: int) -> bool:
    """Return whether the session has not ended, is not overdue at ``at_ms``, and is the subject's."""
    return isinstance(session, Fold) and session.subject == subject and SESSION_GUARDS["alive"](session, {}, at_ms)
