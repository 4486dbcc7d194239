"""The examples one would tell a colleague; the random and the exhaustive tests hold the rules behind them."""

from __future__ import annotations

import msgspec
import pytest

from machine.commands import (
    Authenticate,
    Command,
    Connect,
    Data,
    Disconnect,
    Expire,
    Policy,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from machine.errors import TransitionRefused
from machine.session import Connection, Session, Standing, absent, decide, overdue_reason, rotation_standing, touch_due
from tests.machine.samples import CREATE, LOGIN, OPEN, POLICY, Step, session_after


def _refused(session: Session, data: Data, now_ms: int) -> str | None:
    with pytest.raises(TransitionRefused) as caught:
        decide(session, Command("c", "test", data), now_ms)
    return caught.value.guard


def test_a_whole_life() -> None:
    assert session_after(
        (CREATE, 10), (LOGIN, 20), (OPEN, 30), (Refresh(1, 0), 40), (Touch(), 50), (Touch(), 60)
    ) == Session(
        session_id="s",
        state="connected",
        version=6,
        subject="alice",
        epoch=1,
        rotation=1,
        rotated_at_ms=40,
        connections=(Connection("tab", "node"),),
        created_at_ms=10,
        updated_at_ms=60,
        idle_deadline_ms=1_060,
        absolute_deadline_ms=5_020,
        policy=POLICY,
        reason=None,
    )


@pytest.mark.parametrize("end", [Revoke("logout"), Expire("idle")])
def test_the_end_keeps_its_reason_and_no_connection(end: Revoke | Expire) -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (end, 1_000))
    assert (session.state, session.reason, session.connections, session.ended) == ("expired", end.reason, (), True)


def test_a_decision_says_who_asked_what_and_when() -> None:
    transition = decide(absent("s"), Command("c9", "anonymous", CREATE), 7)
    assert msgspec.structs.astuple(transition) == ("s", 1, "create", None, "created", 7, "anonymous", "c9", CREATE)


def test_an_anonymous_session_never_connects() -> None:
    assert _refused(session_after((CREATE, 0)), OPEN, 1) is None


def test_the_deadline_itself_is_too_late() -> None:
    session = session_after((CREATE, 0))
    assert session.deadline_ms == 1_000
    assert _refused(session, Touch(), 1_000) == "alive"
    assert _refused(session, Expire("idle"), 999) == "not alive"
    assert decide(session, Command("c", "test", Touch()), 999).target == "created"
    assert decide(session, Command("c", "test", Expire("idle")), 1_000).target == "expired"


def test_activity_does_not_put_off_the_absolute_deadline() -> None:
    session = session_after((CREATE, 0), *((Touch(), at_ms) for at_ms in range(900, 5_000, 900)))
    assert (session.idle_deadline_ms, session.deadline_ms) == (5_500, 5_000)
    assert decide(session, Command("c", "test", Touch()), 4_999).target == "created"
    assert _refused(session, Touch(), 5_000) == "alive"


def test_only_the_owner_proves_again_who_they_are() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0))
    assert _refused(session, Reauthenticate("bob", "password"), 1) == "same_subject"


def test_a_login_begins_both_clocks_anew_and_a_refresh_neither() -> None:
    session = session_after((CREATE, 0), (Touch(), 900), (LOGIN, 1_000), (Refresh(1, 0), 1_500))
    assert (session.idle_deadline_ms, session.absolute_deadline_ms) == (2_000, 6_000)
    assert session.proved_at_ms == 1_000
    assert session_after((CREATE, 0), (LOGIN, 0), (Reauthenticate("alice", "password"), 400)).proved_at_ms == 400


def test_a_login_that_somebody_else_vouches_for_is_as_old_as_its_proof() -> None:
    life: list[Step] = [(CREATE, 0), (Authenticate("alice", "oidc", 800), 900), (Refresh(1, 0), 950)]
    session = session_after(*life)
    assert (session.proved_at_ms, session.absolute_deadline_ms) == (100, 5_900)
    assert session_after(*life, (Reauthenticate("alice", "oidc", None), 1_100)).proved_at_ms is None
    assert session_after(*life, (Reauthenticate("alice", "password"), 1_100)).proved_at_ms == 1_100


def test_one_connection_too_many() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (Connect("tab 2", "node"), 0))
    assert _refused(session, Connect("tab 3", "node"), 1) == "below_connection_limit"


def test_a_connection_that_opens_again_is_held_once_on_its_new_node() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (Connect("tab", "other"), 0))
    assert session.connections == (Connection("tab", "other"),)


def test_a_connection_may_go_after_the_deadline_but_must_be_known() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0))
    assert _refused(session, Disconnect("other", 1000), 9_000) == "known_connection"
    assert decide(session, Command("c", "test", Disconnect("tab", 1006)), 9_000).target == "authenticated"


def test_a_clock_set_back_does_not_turn_back_the_session() -> None:
    session = session_after((CREATE, 0), (Touch(), 500))
    assert decide(session, Command("c", "test", Touch()), 100).at_ms == 500


def test_which_deadline_has_passed() -> None:
    short = msgspec.structs.replace(CREATE, policy=Policy(1_000, 1_500, 1, 0))
    session = session_after((short, 0), (Touch(), 900))
    assert [overdue_reason(session, at_ms) for at_ms in (1_499, 1_500, 1_900)] == ["idle", "absolute", "absolute"]


def test_activity_is_worth_a_record_once_per_tenth_of_the_idle_timeout() -> None:
    session = session_after((CREATE, 0), (Touch(), 400))
    assert [touch_due(session, at_ms) for at_ms in (400, 499, 500, 900)] == [False, False, True, True]


def test_two_tabs_refresh_at_once() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (Refresh(1, 0), 300), (Refresh(1, 1), 350))
    assert rotation_standing(session, 1, 2, 350) is Standing.CURRENT
    assert rotation_standing(session, 1, 1, 449) is Standing.REPEATED
    assert rotation_standing(session, 1, 1, 450) is Standing.REUSED
    assert rotation_standing(session, 1, 0, 351) is Standing.REUSED
    assert rotation_standing(session, 0, 0, 351) is Standing.SUPERSEDED
    assert rotation_standing(session, 1, 3, 351) is Standing.SUPERSEDED
    assert _refused(session, Refresh(1, 1), 360) == "rotation_current"


def test_a_login_ends_the_grace_of_the_token_before() -> None:
    session = session_after((CREATE, 0), (Refresh(0, 0), 10), (LOGIN, 20))
    assert rotation_standing(session, 0, 0, 21) is Standing.SUPERSEDED
    assert rotation_standing(session, 0, 1, 21) is Standing.SUPERSEDED
    assert rotation_standing(session, 1, 1, 21) is Standing.CURRENT
    assert rotation_standing(session, 1, 0, 21) is Standing.REUSED


@pytest.mark.parametrize(
    ("after_the_login", "unused"),
    [
        ([], True),
        ([(Refresh(1, 1), 30)], False),
        ([(OPEN, 30)], False),
        ([(Touch(), 30)], False),
        ([(OPEN, 30), (Disconnect("tab", 1000), 40)], True),
        ([(OPEN, 30), (Touch(), 40), (Reauthenticate("alice", "password"), 50), (Disconnect("tab", 4408), 60)], True),
    ],
)
def test_what_shows_that_somebody_has_the_tokens_of_a_login(after_the_login: list[Step], *, unused: bool) -> None:
    """A socket of before the login that closes is none of it."""
    session = session_after((CREATE, 0), (Refresh(0, 0), 10), (LOGIN, 20), *after_the_login)
    assert session.unused is unused
