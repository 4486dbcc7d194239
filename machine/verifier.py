"""Check and replay a whole log in one pass."""

from __future__ import annotations

from machine.errors import LedgerFault, TransitionRefused
from machine.explain import altered, out_of_place, refusal
from machine.ledger import GENESIS, StoredRow, data_of, row_digest
from machine.session import TABLE, Session, Transition, absent, evolve


class Verifier:
    """Reads a log from its first record and raises at the first that is not what the server would have written.

    Checked for each record: positions without gaps, the digest chain, versions without gaps, the source is the state
    before, the event, its guards (evaluated at the recorded time on the fold so far) and the target are declared, and
    no command id repeats within a session.

    ``live`` is the fold of every session that has not ended; an ended one is handed out by ``feed`` once, and of it only
    the id is kept.
    """

    __slots__ = ("_commands", "_ended", "head", "live", "position")

    def __init__(self) -> None:
        self.position = 0
        self.head = GENESIS
        self.live: dict[str, Session] = {}
        self._ended: set[str] = set()
        self._commands: dict[str, set[str]] = {}

    @property
    def session_count(self) -> int:
        """How many sessions the log has held so far."""
        return len(self.live) + len(self._ended)

    def feed(self, row: StoredRow) -> Session:
        """Take the next row in order of position and return its session as it stands after it.

        Raises:
            LedgerFault: naming the position and what is wrong with it.
        """
        session_id = row.session_id
        session = self.live.get(session_id)
        if row.position != self.position + 1:
            raise LedgerFault(row.position, out_of_place(row.position, self.position))
        if row_digest(self.head, row) != row.digest:
            before = None if session_id in self._ended else session or absent(session_id)
            raise LedgerFault(row.position, altered(row, before))
        if session is None:
            if session_id in self._ended:
                raise LedgerFault(row.position, "the session had ended before")
            session = absent(session_id)
        session = self._step(row, session)
        if session.ended:
            self.live.pop(session_id, None)
            del self._commands[session_id]
            self._ended.add(session_id)
        else:
            self.live[session_id] = session
        self.position = row.position
        self.head = row.digest
        return session

    def _step(self, row: StoredRow, session: Session) -> Session:
        data = data_of(row)
        version, event, at_ms = row.version, row.event, row.at_ms
        if version != session.version + 1:
            missing = "records of it are missing" if version > session.version else "that was recorded before"
            raise LedgerFault(row.position, f"version {version} of a session that is at {session.version}: {missing}")
        if row.source != session.state:
            raise LedgerFault(row.position, f"source {row.source}, but the session is {session.state}")
        if at_ms < session.updated_at_ms:
            raise LedgerFault(row.position, "time runs backwards within the session")
        try:
            target = TABLE.step(session.state, event, session, data, at_ms)
        except TransitionRefused as refused:
            raise LedgerFault(row.position, refusal(refused, session, data)) from None
        if target != row.target:
            raise LedgerFault(row.position, f"{event} from {row.source} leads to {target}, not to {row.target}")
        commands = self._commands.get(row.session_id)
        if commands is None:
            commands = self._commands[row.session_id] = set()
        elif row.command_id in commands:
            raise LedgerFault(row.position, "the command id was recorded before for this session")
        commands.add(row.command_id)
        return evolve(
            session,
            Transition(row.session_id, version, event, row.source, target, at_ms, row.actor, row.command_id, data),
        )
