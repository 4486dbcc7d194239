"""Typical examples; the random and the exhaustive tests check the rules behind them."""

from __future__ import annotations

import msgspec
import pytest

from interlock.machine.errors import SessionEnded, SessionUnusable, TransitionRefused
from interlock.machine.machine import Command
from interlock.machine.session.commands import (
    Authenticate,
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
from interlock.machine.session.machine import SESSION_MACHINE, ensure_usable
from interlock.machine.session.refresh_tokens import IssuedToken
from interlock.machine.session.session import (
    GUARDS,
    Connection,
    Session,
    ensure_alive,
    opens_until_ms,
    overdue_reason,
    touch_due,
)
from tests.machine.samples import CREATE, LOGIN, OPEN, POLICY, Step, session_after


def _refused(session: Session, data: Data, now_ms: int) -> str | None:
    with pytest.raises(TransitionRefused) as caught:
        SESSION_MACHINE.decide(session, Command("c", "test", data), now_ms)
    return caught.value.guard


def test_a_whole_session_life() -> None:
    assert session_after(
        (CREATE, 10), (LOGIN, 20), (OPEN, 30), (Refresh(1, 0), 40), (Touch(), 50), (Touch(), 60)
    ) == Session(
        session_id="s",
        state="connected",
        version=6,
        subject="alice",
        epoch=1,
        rotation=1,
        refresh_tokens=(IssuedToken(0, 20, used_at_ms=40), IssuedToken(1, 40)),
        connections=(Connection("tab", "node"),),
        created_at_ms=10,
        updated_at_ms=60,
        idle_deadline_ms=1_060,
        absolute_deadline_ms=5_020,
        policy=POLICY,
        reason=None,
    )


@pytest.mark.parametrize("end", [Revoke("logout"), Expire("idle")])
def test_an_ended_session_has_its_reason_and_no_connection(end: Revoke | Expire) -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (end, 1_000))
    assert (session.state, session.reason, session.connections, session.ended) == ("expired", end.reason, (), True)


def test_a_decision_records_actor_command_and_time() -> None:
    transition = SESSION_MACHINE.decide(SESSION_MACHINE.absent("s"), Command("c9", "anonymous", CREATE), 7)
    assert msgspec.structs.astuple(transition) == (
        "session",
        "s",
        1,
        "create",
        None,
        "created",
        7,
        "anonymous",
        "c9",
        CREATE,
    )


def test_an_anonymous_session_never_connects() -> None:
    assert _refused(session_after((CREATE, 0)), OPEN, 1) is None


def test_a_session_is_refused_at_its_exact_deadline() -> None:
    session = session_after((CREATE, 0))
    assert session.deadline_ms == 1_000
    assert _refused(session, Touch(), 1_000) == "alive"
    assert _refused(session, Expire("idle"), 999) == "not alive"
    assert SESSION_MACHINE.decide(session, Command("c", "test", Touch()), 999).target == "created"
    assert SESSION_MACHINE.decide(session, Command("c", "test", Expire("idle")), 1_000).target == "expired"


def test_activity_does_not_put_off_the_absolute_deadline() -> None:
    session = session_after((CREATE, 0), *((Touch(), at_ms) for at_ms in range(900, 5_000, 900)))
    assert (session.idle_deadline_ms, session.deadline_ms) == (5_500, 5_000)
    assert SESSION_MACHINE.decide(session, Command("c", "test", Touch()), 4_999).target == "created"
    assert _refused(session, Touch(), 5_000) == "alive"


def test_only_the_owner_can_reauthenticate() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0))
    assert _refused(session, Reauthenticate("bob", "password"), 1) == "same_subject"


def test_a_login_restarts_both_deadlines_and_a_refresh_neither() -> None:
    session = session_after((CREATE, 0), (Touch(), 900), (LOGIN, 1_000), (Refresh(1, 0), 1_500))
    assert (session.idle_deadline_ms, session.absolute_deadline_ms) == (2_000, 6_000)
    assert session.auth_time_ms == 1_000
    assert session_after((CREATE, 0), (LOGIN, 0), (Reauthenticate("alice", "password"), 400)).auth_time_ms == 400


def test_a_login_by_a_provider_is_as_old_as_its_authentication() -> None:
    life: list[Step] = [(CREATE, 0), (Authenticate("alice", "oidc", 800), 900), (Refresh(1, 0), 950)]
    session = session_after(*life)
    assert (session.auth_time_ms, session.absolute_deadline_ms) == (100, 5_900)
    assert session_after(*life, (Reauthenticate("alice", "oidc", None), 1_100)).auth_time_ms is None
    assert session_after(*life, (Reauthenticate("alice", "password"), 1_100)).auth_time_ms == 1_100


def test_a_connection_over_the_limit_is_refused() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (Connect("tab 2", "node"), 0))
    assert _refused(session, Connect("tab 3", "node"), 1) == "below_connection_limit"


def test_a_reconnecting_connection_is_held_once_on_its_new_node() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (Connect("tab", "other"), 0))
    assert session.connections == (Connection("tab", "other"),)


def test_only_a_known_connection_may_disconnect_after_the_deadline() -> None:
    session = session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0))
    assert _refused(session, Disconnect("other", 1000), 9_000) == "known_connection"
    assert (
        SESSION_MACHINE.decide(session, Command("c", "test", Disconnect("tab", 1006)), 9_000).target == "authenticated"
    )


def test_a_clock_set_back_does_not_set_the_session_back() -> None:
    session = session_after((CREATE, 0), (Touch(), 500))
    assert SESSION_MACHINE.decide(session, Command("c", "test", Touch()), 100).at_ms == 500


def test_the_overdue_reason_is_absolute_from_the_absolute_deadline_on() -> None:
    short = msgspec.structs.replace(CREATE, policy=Policy(1_000, 1_500, 1, 0))
    session = session_after((short, 0), (Touch(), 900))
    assert [overdue_reason(session, at_ms) for at_ms in (1_499, 1_500, 1_900)] == ["idle", "absolute", "absolute"]


def test_activity_is_due_for_a_record_once_per_tenth_of_the_idle_timeout() -> None:
    session = session_after((CREATE, 0), (Touch(), 400))
    assert [touch_due(session, at_ms) for at_ms in (400, 499, 500, 900)] == [False, False, True, True]


def _honoured(session: Session, now_ms: int, epoch: int = 1) -> list[int]:
    """Return the rotations of ``epoch`` that are exchanged at ``now_ms``."""
    guard = GUARDS["rotation_honoured"]
    return [rotation for rotation in range(session.rotation + 2) if guard(session, Refresh(epoch, rotation), now_ms)]


def _refreshed(*presented: tuple[int, int]) -> Session:
    """Return a session whose refresh tokens were presented: (rotation, when). The first is issued at 0; the grace is 100."""
    return session_after((CREATE, 0), (LOGIN, 0), *((Refresh(1, rotation), at_ms) for rotation, at_ms in presented))


def test_a_token_that_was_exchanged_is_honoured_within_the_grace() -> None:
    session = _refreshed((0, 300), (1, 350))
    assert _honoured(session, 399) == [0, 1, 2]
    assert _honoured(session, 400) == [1, 2], "the answer with 1 has come, or 1 would not have been used"
    assert _refused(session, Refresh(1, 0), 400) == "rotation_honoured"


def test_a_token_with_an_unused_successor_is_honoured_after_the_grace() -> None:
    assert _honoured(_refreshed((0, 300)), 999) == [0, 1]
    assert _honoured(_refreshed((0, 300), (1, 600)), 999) == [1, 2]


def test_an_abandoned_answers_token_is_not_honoured() -> None:
    assert _honoured(_refreshed((0, 300), (0, 399)), 400) == [0, 1, 2], "it may still be under way"
    assert _honoured(_refreshed((0, 300), (0, 400)), 400) == [0, 2]


def test_three_tabs_keep_every_token_that_a_jar_may_hold() -> None:
    # Tabs 1 and 2 send 0; tab 3 has received 1 and exchanges it; then the 0 of tab 2 arrives.
    session = _refreshed((0, 300), (1, 310), (0, 320))
    assert _honoured(session, 330) == [0, 1, 2, 3]
    # The answer with 3 came last, or the one with 2.
    assert _honoured(_refreshed((0, 300), (1, 310), (0, 320), (3, 600)), 600) == [3, 4]
    assert _honoured(_refreshed((0, 300), (1, 310), (0, 320), (2, 600)), 600) == [2, 4]


def test_a_token_from_a_late_answer_is_honoured() -> None:
    # 1 is on its way while 2 arrives and is exchanged for 3; then 1 arrives, and the jar holds it.
    session = _refreshed((0, 300), (0, 310), (2, 350))
    assert _honoured(session, 999) == [1, 2, 3]
    assert _honoured(_refreshed((0, 300), (0, 310), (2, 350), (1, 600)), 600) == [1, 4]


def test_a_copy_used_in_step_is_detected_at_the_next_exchange() -> None:
    # The owner exchanges 0 for 1; the copy, within the grace, for 2. Long after, the owner continues.
    assert _honoured(_refreshed((0, 300), (0, 310), (1, 600)), 600) == [1, 3]
    # Or the copy continues first: then the owner's next exchange ends the session.
    assert _honoured(_refreshed((0, 300), (0, 310), (2, 600)), 600) == [2, 3]


def test_repeats_do_not_extend_the_time_of_pending_answers() -> None:
    assert _honoured(_refreshed((0, 300), (1, 310), (0, 390)), 399)[0] == 0
    assert 0 not in _honoured(_refreshed((0, 300), (1, 310), (0, 390)), 400)


def test_without_a_grace_a_token_works_once_unless_its_answer_was_lost() -> None:
    strict = msgspec.structs.replace(CREATE, policy=msgspec.structs.replace(POLICY, refresh_grace_ms=0))
    session = session_after((strict, 0), (LOGIN, 0), (Refresh(1, 0), 10), (Refresh(1, 0), 10))
    assert _honoured(session, 10) == [0, 2]
    session = session_after((strict, 0), (LOGIN, 0), (Refresh(1, 0), 10), (Refresh(1, 1), 10))
    assert _honoured(session, 10) == [1, 2]


def test_tokens_superseded_by_a_login_are_not_honoured() -> None:
    session = session_after((CREATE, 0), (Refresh(0, 0), 10), (LOGIN, 20))
    assert _honoured(session, 21, epoch=0) == []
    assert _honoured(session, 21, epoch=1) == [1]


def test_an_exchanged_token_opens_something_only_within_its_grace() -> None:
    session = _refreshed((0, 300))
    assert [opens_until_ms(session, rotation, 310) for rotation in (0, 1, 2)] == [400, session.deadline_ms, 0]
    assert opens_until_ms(_refreshed((0, 300), (1, 310)), 0, 320) == 400


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
def test_which_events_show_that_a_logins_tokens_arrived(after_the_login: list[Step], *, unused: bool) -> None:
    """The close of a socket from before the login does not."""
    session = session_after((CREATE, 0), (Refresh(0, 0), 10), (LOGIN, 20), *after_the_login)
    assert session.unused is unused


def test_a_session_in_a_state_without_touch_is_alive_but_unusable() -> None:
    session = session_after((CREATE, 0), (LOGIN, 10))
    ensure_usable(session, 11)
    suspended = msgspec.structs.replace(session, state="suspended")
    ensure_alive(suspended, 11)
    with pytest.raises(SessionUnusable, match="can't be used while it is suspended"):
        ensure_usable(suspended, 11)
    with pytest.raises(SessionEnded, match="idle"):
        ensure_usable(suspended, session.idle_deadline_ms)
