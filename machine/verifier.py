"""Check and replay a whole log in one pass."""

from __future__ import annotations

from machine.errors import LedgerFault, TransitionRefused
from machine.ledger import GENESIS, StoredRow, parse, row_digest
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
        if row.position != self.position + 1:
            raise LedgerFault(row.position, f"follows record {self.position}: positions have a gap or repeat")
        if row_digest(self.head, row) != row.digest:
            raise LedgerFault(row.position, "digest does not match the record and the one before it")
        if row.session_id in self._ended:
            raise LedgerFault(row.position, "the session had ended before")
        transition = parse(row).transition
        session = self.live.get(row.session_id) or absent(row.session_id)
        self._check(row, session, transition)
        session = evolve(session, transition)
        if session.ended:
            self.live.pop(row.session_id, None)
            del self._commands[row.session_id]
            self._ended.add(row.session_id)
        else:
            self.live[row.session_id] = session
        self.position = row.position
        self.head = row.digest
        return session

    def _check(self, row: StoredRow, session: Session, transition: Transition) -> None:
        if row.version != session.version + 1:
            raise LedgerFault(row.position, f"version {row.version} of a session that is at {session.version}")
        if row.source != session.state:
            raise LedgerFault(row.position, f"source {row.source}, but the session is {session.state}")
        if row.at_ms < session.updated_at_ms:
            raise LedgerFault(row.position, "time runs backwards within the session")
        try:
            target = TABLE.step(session.state, row.event, session, transition.data, row.at_ms)
        except TransitionRefused as refused:
            raise LedgerFault(row.position, f"not declared: {refused}") from None
        if target != row.target:
            raise LedgerFault(row.position, f"{row.event} from {row.source} leads to {target}, not to {row.target}")
        commands = self._commands.setdefault(row.session_id, set())
        if row.command_id in commands:
            raise LedgerFault(row.position, "the command id was recorded before for this session")
        commands.add(row.command_id)
