from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.ledger import parse
from interlock.machine.machines import MACHINES
from interlock.machine.session.view import SessionView, session_view
from interlock.machine.times import rfc3339
from interlock.machine.wire import TransitionView, own_transition_view, transition_view
from tests.machine.samples import CREATE, LOGIN, OPEN, POLICY, history, rows_of, session_after

_AT_MS = 1_769_160_600_123


def test_times_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(_AT_MS) == "2026-01-23T09:30:00.123Z"


@given(st.integers(0, 253_402_300_799_999))
def test_no_millisecond_of_a_time_is_lost(at_ms: int) -> None:
    since = datetime.fromisoformat(rfc3339(at_ms)) - datetime(1970, 1, 1, tzinfo=UTC)
    assert (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000 == at_ms


def test_the_owners_view_of_a_session() -> None:
    assert session_view(session_after((CREATE, _AT_MS), (LOGIN, _AT_MS), (OPEN, _AT_MS))) == SessionView(
        session_id="s",
        state="connected",
        version=3,
        subject="alice",
        connections=1,
        created_at="2026-01-23T09:30:00.123Z",
        idle_expires_at="2026-01-23T09:30:01.123Z",
        expires_at="2026-01-23T09:30:05.123Z",
        reason=None,
    )


@pytest.mark.parametrize(
    ("actor", "shown"),
    [
        ("admin:ada", "admin"),
        ("client:gateway", "client"),
        ("server", "server"),
        ("anonymous", "anonymous"),
        ("acc_1", "acc_1"),
    ],
)
def test_the_owners_view_of_a_record_names_no_administrator(actor: str, shown: str) -> None:
    record = parse(rows_of(history("s", [(CREATE, _AT_MS)]))[0], MACHINES)
    by = msgspec.structs.replace(record, transition=msgspec.structs.replace(record.transition, actor=actor))
    assert own_transition_view(by) == msgspec.structs.replace(transition_view(by), actor=shown)
    assert transition_view(by).actor == actor


def test_the_view_of_a_record() -> None:
    row = rows_of(history("s", [(CREATE, _AT_MS)]))[0]
    assert transition_view(parse(row, MACHINES)) == TransitionView(
        position=1,
        kind="session",
        instance_id="s",
        version=1,
        event="create",
        source=None,
        target="created",
        at="2026-01-23T09:30:00.123Z",
        actor="test",
        data={"policy": msgspec.to_builtins(POLICY)},
        digest=row.digest.hex(),
    )
