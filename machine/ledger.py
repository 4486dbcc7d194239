"""The record, its digest chain, and the receipt that names a place in it.

The chain: ``digest(n) = SHA-256(digest(n-1) ‖ payload(n))`` with 32 zero bytes before the first record. The payload is
the UTF-8 JSON array ``[position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, data]``,
where ``data`` is the JSON text exactly as stored. An edited, missing, repeated or swapped record breaks it from there on.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, Self

import msgspec

from interlock.machine.errors import ReceiptMalformed
from interlock.machine.machine import Machines, Transition

GENESIS: Final[bytes] = bytes(32)
"""The digest before the first record."""

HEAD_LAG: Final = 10_000
"""Records that the log may hold beyond its newest signed head. The writer waits for the head rather than exceed it."""

_encoder: Final = msgspec.json.Encoder()
_encode: Final = _encoder.encode
_sha256: Final = hashlib.sha256
_RECEIPT: Final = re.compile(r"([1-9][0-9]{0,18})\.([0-9a-f]{64})\Z")


class Record(msgspec.Struct, frozen=True):
    """One transition as the log holds it. ``position`` counts from 1 over all instances; ``digest`` is 32 bytes."""

    position: int
    transition: Transition
    digest: bytes

    @property
    def receipt(self) -> Receipt:
        """What whoever asked for the transition may keep of it."""
        return Receipt(self.position, self.digest.hex())


class Receipt(msgspec.Struct, frozen=True, order=True):
    """The place and the digest of an acknowledged record: by the chain, a statement about it and all before it.

    ``digest`` is lower-case hex. As text it is ``position.digest``.
    """

    position: int
    digest: str

    def __str__(self) -> str:
        return f"{self.position}.{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The receipt that ``text`` writes down.

        Raises:
            ReceiptMalformed: it writes down none.
        """
        match = _RECEIPT.match(text)
        if match is None:
            raise ReceiptMalformed("a receipt is a position, a full stop and 64 hexadecimal digits")
        return cls(int(match[1]), match[2])


EMPTY: Final = Receipt(0, GENESIS.hex())
"""Where the chain of a log without records ends. No client is given it, and no text is parsed into it."""


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """A record as it is stored: flat, with ``data`` as JSON text. Nothing in it has been checked yet."""

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
"""A row as the plain tuple of its fields."""


def chain(previous: bytes, position: int, transition: Transition) -> StoredRow:
    """The row that records ``transition`` at ``position`` after the record whose digest is ``previous``."""
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
    """What the digest of ``row`` must be, given the digest before it."""
    return payload_digest(previous, fields_of(row)[:-1])


def payload_digest(previous: bytes, payload: tuple[Any, ...]) -> bytes:
    """The digest of a record whose fields, without its digest, are ``payload``, given the digest before it."""
    return _sha256(previous + _encode(payload)).digest()


def parse(row: StoredRow, machines: Machines) -> Record:
    """The record in ``row``, of one of ``machines``.

    Raises:
        LedgerFault: kind or event is unknown, or its data does not have the event's shape.
    """
    position, kind, instance_id, version, event, source, target, at_ms, actor, command_id, text, digest = fields_of(row)
    data = machines.of(position, kind).data_of(position, event, text)
    step = Transition(kind, instance_id, version, event, source, target, at_ms, actor, command_id, data)
    return Record(position, step, digest)
