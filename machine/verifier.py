"""Check and replay a whole log in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.machine.errors import LedgerFault, TransitionRefused
from interlock.machine.explain import altered, out_of_place, refusal
from interlock.machine.ledger import GENESIS, StoredRow, data_of, fields_of, payload_digest
from interlock.machine.session import TABLE, Session, Transition, absent, evolve


class Verifier:
    """Reads a log from its first record and raises at the first that is not what the server would have written.

    Checked for each record: positions without gaps, the digest chain, versions without gaps, the source is the state
    before, the event, its guards (evaluated at the recorded time on the fold so far) and the target are declared, and
    no command id repeats within a session.

    ``live`` is the fold of every session that has not ended; an ended one is handed out by ``feed`` once, and forgotten:
    memory grows with the sessions that live, not with history. ``begun`` says whether the log holds the first record of a
    session before a position. It is asked at the beginning of each session.
    """

    __slots__ = ("_begun", "_commands", "_ended", "head", "live", "position")

    def __init__(self, begun: Callable[[str, int], bool]) -> None:
        self.position = 0
        self.head = GENESIS
        self.live: dict[str, Session] = {}
        self._begun = begun
        self._ended = 0
        self._commands: dict[str, set[str]] = {}

    @property
    def session_count(self) -> int:
        """How many sessions the log has held so far."""
        return len(self.live) + self._ended

    def feed(self, row: StoredRow) -> Session:
        """Take the next row in order of position and return its session as it stands after it.

        Raises:
            LedgerFault: naming the position and what is wrong with it.
        """
        return self.feed_fields(fields_of(row))

    def feed_fields(self, row: tuple[Any, ...]) -> Session:
        """Like :meth:`feed`, for whoever has the fields of a row as the database gives them: a million times a log."""
        position, session_id, version, event, source, target, at_ms, actor, command_id, text, digest = row
        session = self.live.get(session_id)
        if position != self.position + 1:
            raise LedgerFault(position, out_of_place(position, self.position))
        if payload_digest(self.head, row[:-1]) != digest:
            before = session or (None if self._begun(session_id, position) else absent(session_id))
            raise LedgerFault(position, altered(version, before))
        if session is None:
            if self._begun(session_id, position):
                raise LedgerFault(position, "the session had ended before")
            session = absent(session_id)
        data = data_of(position, event, text)
        step = Transition(session_id, version, event, source, target, at_ms, actor, command_id, data)
        self._check(position, session, step)
        session = evolve(session, step)
        if session.ended:
            self.live.pop(session_id, None)
            del self._commands[session_id]
            self._ended += 1
        else:
            self.live[session_id] = session
        self.position = position
        self.head = digest
        return session

    def _check(self, position: int, session: Session, step: Transition) -> None:
        if step.version != session.version + 1:
            missing = "records of it are missing" if step.version > session.version else "that was recorded before"
            raise LedgerFault(position, f"version {step.version} of a session that is at {session.version}: {missing}")
        if step.source != session.state:
            raise LedgerFault(position, f"source {step.source}, but the session is {session.state}")
        if step.at_ms < session.updated_at_ms:
            raise LedgerFault(position, "time runs backwards within the session")
        try:
            target = TABLE.step(session.state, step.event, session, step.data, step.at_ms)
        except TransitionRefused as refused:
            raise LedgerFault(position, refusal(refused, session, step.data)) from None
        if target != step.target:
            raise LedgerFault(position, f"{step.event} from {step.source} leads to {target}, not to {step.target}")
        commands = self._commands.get(step.session_id)
        if commands is None:
            self._commands[step.session_id] = {step.command_id}
            return
        if step.command_id in commands:
            raise LedgerFault(position, "the command id was recorded before for this session")
        commands.add(step.command_id)
