"""The digest chain and the verifier: the written log passes, and any change is found at its position."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import LedgerFault
from interlock.machine.ledger import GENESIS, Receipt, Record, StoredRow, chain, chained, parse, row_digest
from interlock.machine.machine import Transition
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Disconnect,
    Expire,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.verifier import Verifier
from tests.machine.samples import CREATE, LOGIN, OPEN, history, rows_of

_ALICE = history(
    "a",
    [
        (CREATE, 0),
        (LOGIN, 10),
        (OPEN, 20),
        (Connect("tab 2", "node"), 30),
        (Refresh(1, 0), 40),
        (Disconnect("tab", 1000), 50),
        (Touch(), 60),
        (Reauthenticate("alice", "password"), 70),
        (Revoke("logout"), 80),
    ],
)
_BOB = history("b", [(CREATE, 5), (Touch(), 200), (Expire("idle"), 5_000)])
_LOG = [*_ALICE[:3], *_BOB[:2], *_ALICE[3:], _BOB[2]]
_ROWS = rows_of(_LOG)

# The place of each of alice's records in the log, by its event.
_AT = {row.event: row.position for row in _ROWS if row.instance_id == "a"}


def begun_in(rows: list[StoredRow]) -> Callable[[str, str, int], bool]:
    """Return whether an instance's first record lies before a position of ``rows``."""
    return lambda kind, instance_id, before: any(
        (row.kind, row.instance_id) == (kind, instance_id) and row.version == 1 and row.position < before
        for row in rows
    )


def _verify(rows: list[StoredRow]) -> Verifier:
    verifier = Verifier(MACHINES, begun_in(rows))
    for row in rows:
        verifier.feed(row)
    return verifier


def _fault(rows: list[StoredRow]) -> LedgerFault:
    with pytest.raises(LedgerFault) as caught:
        _verify(rows)
    return caught.value


def _edited(at: int, /, **changes: Any) -> list[StoredRow]:
    """Return the log with one record changed and its digest kept."""
    rows = list(_ROWS)
    rows[at - 1] = msgspec.structs.replace(rows[at - 1], **changes)
    return rows


def _rechained(rows: list[StoredRow]) -> list[StoredRow]:
    """Return the log as left by an attacker who can compute digests too."""
    head, forged = GENESIS, []
    for row in rows:
        head = row_digest(head, row)
        forged.append(msgspec.structs.replace(row, digest=head))
    return forged


def _forged(at: int, /, **changes: Any) -> list[StoredRow]:
    return _rechained(_edited(at, **changes))


def _renumbered(rows: list[StoredRow]) -> list[StoredRow]:
    return _rechained([msgspec.structs.replace(row, position=n) for n, row in enumerate(rows, 1)])


def test_the_written_log_verifies() -> None:
    verifier = Verifier(MACHINES, begun_in(_ROWS))
    for transition, row in zip(_LOG, _ROWS, strict=True):
        assert verifier.feed(row)[1].version == transition.version
        assert (verifier.position, verifier.head) == (row.position, row.digest)
    assert (verifier.live, verifier.instance_count) == ({}, 2)


def test_the_verifier_returns_the_fold_of_live_instances() -> None:
    verifier = _verify(_ROWS[:5])
    assert verifier.live == {
        ("session", "a"): SESSION_MACHINE.replay("a", _ALICE[:3]),
        ("session", "b"): SESSION_MACHINE.replay("b", _BOB[:2]),
    }
    assert verifier.instance_count == 2


def test_nothing_is_kept_of_a_session_that_ended() -> None:
    verifier = _verify(_ROWS)
    kept = [getattr(verifier, name) for name in Verifier.__slots__]
    assert [each for each in kept if hasattr(each, "__len__") and each not in (verifier.head, MACHINES)] == [{}, {}]


def test_the_verifier_returns_a_session_at_its_last_record() -> None:
    verifier = _verify(_ROWS[:-1])
    assert verifier.feed(_ROWS[-1]) == (SESSION_MACHINE, SESSION_MACHINE.replay("b", _BOB))


def test_the_digest_is_what_the_documentation_says() -> None:
    transition = Transition("session", "s1", 2, "touch", "created", "created", 1_769_160_600_123, "zoë", "c2", Touch())
    payload = [7, "session", "s1", 2, "touch", "created", "created", 1_769_160_600_123, "zoë", "c2", "{}"]
    text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    row = chain(bytes(range(32)), 7, transition)
    assert row.digest == hashlib.sha256(bytes(range(32)) + text.encode()).digest()
    assert row.digest.hex() == "093e6287c184551d96df1aafb4ac0fc8233a77dc808cdc50a682c9d5a6fbdd12"
    assert msgspec.to_builtins(row)[:-1] == payload
    assert GENESIS == b"\0" * 32


def test_a_creation_has_no_source() -> None:
    payload = [1, "session", "a", 1, "create", None, "created", 0, "test", "c1", _ROWS[0].data]
    text = json.dumps(payload, separators=(",", ":"))
    assert _ROWS[0].digest == hashlib.sha256(GENESIS + text.encode()).digest()
    assert json.loads(_ROWS[0].data) == {"policy": msgspec.to_builtins(CREATE.policy)}


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: f"{row.position}-{row.event}")
def test_a_row_is_read_back_as_it_was_recorded(row: StoredRow) -> None:
    assert parse(row, MACHINES) == Record(row.position, _LOG[row.position - 1], row.digest)


_OTHER: dict[str, Any] = {
    "kind": "account",
    "instance_id": "c",
    "version": 9,
    "event": "refresh",
    "source": "created",
    "target": "expired",
    "at_ms": 61,
    "actor": "mallory",
    "command_id": "c99",
    "data": "{ }",
    "digest": bytes(32),
}


@pytest.mark.parametrize("field", StoredRow.__struct_fields__)
def test_an_edited_field_of_a_record_is_found(field: str) -> None:
    at = _AT["touch"]
    if field == "position":
        assert _fault(_edited(at, position=at + 1)).position == at + 1
        return
    assert getattr(_ROWS[at - 1], field) != _OTHER[field]
    fault = _fault(_edited(at, **{field: _OTHER[field]}))
    assert fault.position == at
    assert fault.fault.startswith("digest ")


@given(st.integers(1, len(_ROWS)), st.integers(0, 31), st.integers(1, 255))
def test_any_flipped_bit_of_a_digest_is_found(position: int, index: int, mask: int) -> None:
    digest = bytearray(_ROWS[position - 1].digest)
    digest[index] ^= mask
    assert _fault(_edited(position, digest=bytes(digest))).position == position


@pytest.mark.parametrize("at", range(1, len(_ROWS)))
def test_a_deleted_record_is_found(at: int) -> None:
    rows = _ROWS[: at - 1] + _ROWS[at:]
    fault = _fault(rows)
    assert fault.position == at + 1
    assert f"record {at} " in fault.fault


def test_a_repeated_record_is_found() -> None:
    fault = _fault([*_ROWS[:4], _ROWS[3], *_ROWS[4:]])
    assert fault.position == 4
    assert "record 4" in fault.fault


@pytest.mark.parametrize("at", range(1, len(_ROWS)))
def test_swapped_records_are_found(at: int) -> None:
    rows = list(_ROWS)
    rows[at - 1], rows[at] = rows[at], rows[at - 1]
    assert _fault(rows).position == at + 1
    moved = [msgspec.structs.replace(row, position=n) for n, row in enumerate(rows, 1)]
    fault = _fault(moved)
    assert (fault.position, fault.fault.startswith("digest")) == (at, True)


@pytest.mark.checks("declared_only")
@pytest.mark.parametrize(
    ("event", "changes", "says"),
    [
        ("touch", {"target": "authenticated"}, "touch from connected leads to connected, not to authenticated"),
        ("touch", {"target": "gone"}, "leads to connected, not to gone"),
        ("touch", {"source": "created"}, "source created, but the session is connected"),
        ("create", {"source": "created"}, "source created, but the session is None"),
        (
            "connect",
            {"event": "authenticate", "data": '{"subject":"alice","method":"password"}'},
            "The declaration has authenticate from created only.",
        ),
        ("create", {"event": "touch", "data": "{}"}, "refused: touch before create."),
        ("refresh", {"data": '{"epoch":1,"rotation":1}'}, "guard `rotation_honoured` fails: "),
        ("refresh", {"at_ms": 99_999}, "guard `alive` fails: "),
        ("disconnect", {"data": '{"connection_id":"tab 3","code":1000}'}, "guard `known_connection` fails: "),
        ("reauthenticate", {"data": '{"subject":"bob","method":"password"}'}, "guard `same_subject` fails: "),
        ("revoke", {"event": "expire", "data": '{"reason":"idle"}'}, "guard `not alive` fails: "),
        ("revoke", {"event": "expire"}, "data of expire is malformed"),
    ],
)
def test_an_undeclared_transition_is_found(event: str, changes: dict[str, Any], says: str) -> None:
    fault = _fault(_forged(_AT[event], **changes))
    assert fault.position == _AT[event]
    assert says in fault.fault


def test_a_connection_over_the_limit_is_found() -> None:
    third = [*_ALICE[:4], msgspec.structs.replace(_ALICE[3], version=5, source="connected", command_id="c5")]
    fault = _fault(rows_of(third))
    assert (fault.position, "below_connection_limit" in fault.fault) == (5, True)


@pytest.mark.checks("versions_gapless")
@pytest.mark.parametrize("version", [-1, 0, 5, 7, 8])
def test_a_version_gap_is_found(version: int) -> None:
    at = _AT["disconnect"]
    assert _ROWS[at - 1].version == 6
    fault = _fault(_forged(at, version=version))
    assert fault.position == at
    assert re.findall(r"-?\d+", fault.fault) == [str(version), "5"]


def test_a_removed_record_is_found_despite_renumbering() -> None:
    at = _AT["refresh"]
    fault = _fault(_renumbered(_ROWS[: at - 1] + _ROWS[at:]))
    assert fault.position == at
    assert re.findall(r"\d+", fault.fault) == ["6", "4"]


@pytest.mark.checks("command_once")
def test_a_repeated_command_is_found() -> None:
    at = _AT["touch"]
    fault = _fault(_forged(at, command_id=_ALICE[0].command_id))
    assert fault.position == at
    assert "command" in fault.fault


def test_two_sessions_may_use_the_same_command_id() -> None:
    assert {row.command_id for row in _ROWS if row.instance_id == "b"} <= {t.command_id for t in _ALICE}


def test_time_running_backwards_is_found() -> None:
    at = _AT["touch"]
    fault = _fault(_forged(at, at_ms=49))
    assert fault.position == at
    assert "time" in fault.fault
    assert _verify(_forged(at, at_ms=50)).position == len(_ROWS)


@pytest.mark.checks("expired_absorbs")
@pytest.mark.parametrize("event", ["touch", "create", "revoke"])
def test_a_record_after_the_end_is_found(event: str) -> None:
    late = next(transition for transition in _ALICE if transition.event == event)
    fault = _fault(_renumbered([*_ROWS, *rows_of([late])]))
    assert fault.position == len(_ROWS) + 1
    assert "ended" in fault.fault


def test_an_unknown_event_is_found() -> None:
    fault = _fault(_forged(_AT["touch"], event="teleport"))
    assert (fault.position, fault.fault) == (_AT["touch"], "unknown event 'teleport' of kind session")


@pytest.mark.parametrize(
    "data", ["", "{", "null", "[]", '{"subject":"alice"}', '{"epoch":1}', '{"epoch":1,"rotation":"0"}']
)
def test_malformed_data_is_found(data: str) -> None:
    fault = _fault(_forged(_AT["refresh"], data=data))
    assert fault.position == _AT["refresh"]
    assert "refresh" in fault.fault


def test_data_with_a_field_too_many_is_found() -> None:
    fault = _fault(_forged(_AT["touch"], data='{"note":"hello"}'))
    assert (fault.position, "malformed" in fault.fault) == (_AT["touch"], True)


def test_an_end_for_an_unknown_reason_is_found() -> None:
    fault = _fault(_forged(_AT["revoke"], data='{"reason":"bored"}'))
    assert (fault.position, "malformed" in fault.fault) == (_AT["revoke"], True)


def test_a_fault_does_not_change_the_verifier() -> None:
    verifier = _verify(_ROWS[:5])
    with pytest.raises(LedgerFault):
        verifier.feed(_ROWS[6])
    for row in _ROWS[5:]:
        verifier.feed(row)
    assert verifier.position == len(_ROWS)


def test_a_legal_edit_with_new_digests_shows_only_in_the_head() -> None:
    """This is why a copy of the head should be kept elsewhere: the chain itself is no signature."""
    assert _verify(_forged(_AT["touch"], actor="mallory")).head != _verify(_ROWS).head


@pytest.mark.parametrize(
    ("last", "changed", "fault"),
    [
        (0, False, (2, "the record is missing")),
        (1, True, (3, "the digest does not fit the record and the digest before it")),
    ],
)
def test_a_row_is_checked_against_the_receipt_before_it(last: int, changed: bool, fault: tuple[int, str]) -> None:  # noqa: FBT001  # a parameter of the test
    receipts = [Receipt(row.position, row.digest.hex()) for row in _ROWS]
    digest = row_digest(_ROWS[1].digest, _ROWS[2])
    assert chained(receipts[1], _ROWS[2], digest) == receipts[2]
    with pytest.raises(LedgerFault) as found:
        chained(receipts[last], _ROWS[2], bytes(32) if changed else digest)
    assert (found.value.position, found.value.fault) == fault


def test_a_record_holds_its_authentications_age_or_counts_as_one() -> None:
    for age_ms, more in ((0, ""), (7, ',"auth_age_ms":7'), (None, ',"auth_age_ms":null')):
        _, row = rows_of(history("a", [(CREATE, 0), (Authenticate("alice", "oidc", age_ms), 1)]))
        assert row.data == f'{{"subject":"alice","method":"oidc"{more}}}'
        assert parse(row, MACHINES).transition.data == Authenticate("alice", "oidc", age_ms)
    in_the_future = '{"subject":"alice","method":"oidc","auth_age_ms":-1}'
    with pytest.raises(LedgerFault, match="malformed"):
        parse(msgspec.structs.replace(row, data=in_the_future), MACHINES)
