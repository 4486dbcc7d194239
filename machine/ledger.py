"""The record and its digest chain; check and replay a whole log in one pass.

The chain: ``digest(n) = SHA-256(digest(n-1) ‖ payload(n))`` with 32 zero bytes before the first record. The payload is
the UTF-8 JSON array ``[position, session_id, version, event, source, target, at_ms, actor, command_id, data]``, where
``data`` is the JSON text exactly as stored. An edited, missing, repeated or swapped record breaks it from there on.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from machine.commands import DATA_TYPES
from machine.errors import LedgerFault, TransitionRefused
from machine.session import TABLE, Session, Transition, absent, evolve

GENESIS: Final[bytes] = bytes(32)
"""The digest before the first record."""

_encoder: Final = msgspec.json.Encoder()
_decoders: Final = {event: msgspec.json.Decoder(data_type) for event, data_type in DATA_TYPES.items()}


class Record(msgspec.Struct, frozen=True):
    """One transition as the log holds it. ``position`` counts from 1 over all sessions; ``digest`` is 32 bytes."""

    position: int
    transition: Transition
    digest: bytes


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """A record as it is stored: flat, with ``data`` as JSON text. Nothing in it has been checked yet."""

    position: int
    session_id: str
    version: int
    event: str
    source: str | None
    target: str
    at_ms: int
    actor: str
    command_id: str
    data: str
    digest: bytes


def chain(previous: bytes, position: int, transition: Transition) -> StoredRow:
    """The row that records ``transition`` at ``position`` after the record whose digest is ``previous``."""
    data = _encoder.encode(transition.data).decode()
    payload = (
        position,
        transition.session_id,
        transition.version,
        transition.event,
        transition.source,
        transition.target,
        transition.at_ms,
        transition.actor,
        transition.command_id,
        data,
    )
    return StoredRow(*payload, _digest(previous, payload))


def row_digest(previous: bytes, row: StoredRow) -> bytes:
    """What the digest of ``row`` must be, given the digest before it."""
    return _digest(previous, msgspec.structs.astuple(row)[:-1])


def _digest(previous: bytes, payload: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(previous + _encoder.encode(payload)).digest()


def parse(row: StoredRow) -> Record:
    """The record in ``row``.

    Raises:
        LedgerFault: the event is unknown or its data does not have the event's shape.
    """
    decoder = _decoders.get(row.event)
    if decoder is None:
        raise LedgerFault(row.position, f"unknown event {row.event!r}")
    try:
        data = decoder.decode(row.data)
    except msgspec.MsgspecError as error:
        raise LedgerFault(row.position, f"data of {row.event} is malformed: {error}") from None
    return Record(
        row.position,
        Transition(
            row.session_id,
            row.version,
            row.event,
            row.source,
            row.target,
            row.at_ms,
            row.actor,
            row.command_id,
            data,
        ),
        row.digest,
    )


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
