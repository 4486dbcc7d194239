"""The record, its digest chain, and the receipt that identifies one record in the chain.

The chain is ``digest(n) = SHA-256(digest(n-1) ‖ payload(n))``, with 32 zero bytes before the first record. The payload is the
UTF-8 JSON array ``[position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, data]``, where
``data`` is the JSON text exactly as stored. An edited, missing, repeated or swapped record breaks the chain from there on.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, Self

import msgspec

from interlock.machine.errors import LedgerFault, ReceiptMalformed
from interlock.machine.machine import Machines, Transition

GENESIS: Final[bytes] = bytes(32)
"""The digest before the first record."""

HEAD_LAG: Final = 10_000
"""How many records the log may hold beyond its newest signed head. At this limit the writer waits for a new head."""

_encoder: Final = msgspec.json.Encoder()
_encode: Final = _encoder.encode
_sha256: Final = hashlib.sha256
_RECEIPT: Final = re.compile(r"([1-9][0-9]{0,18})\.([0-9a-f]{64})\Z")


class Record(msgspec.Struct, frozen=True):
    """One transition as stored in the log. ``position`` counts from 1 over all instances; ``digest`` is 32 bytes."""

    position: int
    transition: Transition
    digest: bytes

    @property
    def receipt(self) -> Receipt:
        """The receipt that the caller gets for the record."""
        return Receipt(self.position, self.digest.hex())


class Receipt(msgspec.Struct, frozen=True, order=True):
    """The position and digest of an acknowledged record. By the chain it covers this record and all before it.

    ``digest`` is lower-case hex. The text form is ``position.digest``.
    """

    position: int
    digest: str

    def __str__(self) -> str:
        return f"{self.position}.{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the receipt that ``text`` contains.

        Raises:
            ReceiptMalformed: ``text`` is not a receipt.
        """
        match = _RECEIPT.match(text)
        if match is None:
            raise ReceiptMalformed("a receipt is a position, a full stop and 64 hexadecimal digits")
        return cls(int(match[1]), match[2])


EMPTY: Final = Receipt(0, GENESIS.hex())
"""The end of the chain of an empty log. It is never given to a client, and no text parses to it."""


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """A record as stored: flat, unchecked, with ``data`` as JSON text."""

    position: int
    kind: str
    instance_id: str
    version: int
    event: str
    source: str | None
    target: str
    at_ms: int
    actor: str
    command_id: str
    data: str
    digest: bytes


fields_of: Final = msgspec.structs.astuple
"""Return the fields of a row as a plain tuple."""


def chain(previous: bytes, position: int, transition: Transition) -> StoredRow:
    """Return the row that records ``transition`` at ``position``, after the record whose digest is ``previous``."""
    data = _encoder.encode(transition.data).decode()
    payload = (
        position,
        transition.kind,
        transition.instance_id,
        transition.version,
        transition.event,
        transition.source,
        transition.target,
        transition.at_ms,
        transition.actor,
        transition.command_id,
        data,
    )
    return StoredRow(*payload, payload_digest(previous, payload))


def row_digest(previous: bytes, row: StoredRow) -> bytes:
    """Return the digest that ``row`` must have, given the digest before it."""
    return payload_digest(previous, fields_of(row)[:-1])


def chained(last: Receipt, row: StoredRow, digest: bytes) -> Receipt:
    """Return the receipt of ``row``, the one after ``last``, whose digest must be ``digest``.

    Raises:
        LedgerFault: it is not the next record, or its digest is another one.
    """
    if row.position != last.position + 1:
        raise LedgerFault(last.position + 1, "the record is missing")
    if row.digest != digest:
        raise LedgerFault(row.position, "the digest does not fit the record and the digest before it")
    return Receipt(row.position, digest.hex())


def payload_digest(previous: bytes, payload: tuple[Any, ...]) -> bytes:
    """Return the digest of a record with the fields ``payload`` (all but the digest), given the digest before it."""
    return _sha256(previous + _encode(payload)).digest()


def parse(row: StoredRow, machines: Machines) -> Record:
    """Return the record in ``row``, which must be of one of ``machines``.

    Raises:
        LedgerFault: the kind or event is unknown, or the data does not have the event's shape.
    """
    position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, text, digest = fields_of(row)
    data = machines.of(position, kind).data_of(position, event, text)
    step = Transition(kind, instance_id, version, event, source, target, at_ms, actor, command_id, data)
    return Record(position, step, digest)
