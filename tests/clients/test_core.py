"""The rules of the Python client: when it refreshes, reconnects, waits, and when the session is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.client.words import (
    CallRefused,
    CloseSocket,
    ConnectionWanted,
    Disconnected,
    End,
    Failure,
    HandshakeFailed,
    IntentProgress,
    IntentSubmitted,
    LoggedOut,
    OpenSocket,
    Output,
    Problem,
    Refresh,
    RefreshAnswered,
    Send,
    SessionEnded,
    SocketClosed,
    SocketOpened,
    Stopped,
    TextReceived,
    Tick,
    TokensArrived,
)
from interlock.machine.closing import CLOSE_CODES, ClientAction, Recovery
from interlock.server.experience.problem_kinds import ProblemKind, problem_kinds
from tests.clients.replaying import Player, tokens

CODES = {row.code: row.next for row in CLOSE_CODES.values()}
HELLO = (
    '{"type":"hello","connection_id":"tab1","session_id":"s","state":"connected","version":3,"ping_interval_ms":20000,'
    '"limits":{"message_bytes":65536,"unanswered":2},"stream":{"epoch":"first","offset":0},'
    '"receipt":{"position":9,"digest":"d"}}'
)


def problem(recovery: Recovery, name: str = "some-problem", reason: str | None = None) -> Problem:
    return Problem(f"urn:interlock:problem:{name}", 401, recovery, reason=reason)


def connected() -> Player:
    player = Player()
    player.give(SocketOpened())
    player.give(TextReceived(HELLO))
    return player


def refreshing() -> tuple[Player, Refresh]:
    player = Player()
    player.give(ConnectionWanted(wanted=False))
    [asked] = player.wait()
    assert isinstance(asked, Refresh)
    return player, asked


@given(chance=st.floats(0, 1))
def test_a_token_is_refreshed_within_60_to_80_percent_of_its_life(chance: float) -> None:
    player = Player(chance=chance)
    player.give(SocketOpened())
    assert player.core.next_wake_ms() is not None
    player.wait()
    assert player.of(Refresh)
    assert 0.6 * 300_000 <= player.now_ms <= 0.8 * 300_000


def test_a_laptop_that_slept_refreshes_before_it_connects() -> None:
    player = connected()
    player.now_ms = 400_000
    out = player.give(SocketClosed(1006))
    assert [type(each) for each in out] == [Disconnected, Refresh]
    generation = player.of(Refresh)[0].generation
    assert player.core.stale(player.now_ms)
    out = player.give(RefreshAnswered(generation, tokens("newer")))
    assert OpenSocket("newer") in out


def test_an_open_socket_is_given_the_newer_token() -> None:
    player = connected()
    player.give(TokensArrived(tokens("newer")))
    assert player.sent == [{"type": "refresh", "access_token": "newer"}]


@pytest.mark.parametrize(
    "failure",
    [
        Failure(),
        Failure(retry_after_ms=5000),
        Failure(problem(Recovery.RETRY_LATER)),
        Failure(problem(Recovery.REFRESH)),
    ],
    ids=["no answer", "a server that is away", "a limit", "a login meanwhile"],
)
def test_a_refresh_that_fails_is_repeated_with_the_same_token(failure: Failure) -> None:
    player, asked = refreshing()
    player.chance = 0.5
    before_ms = player.now_ms
    player.give(RefreshAnswered(asked.generation, failure))
    assert player.core.end is None
    assert player.wait() == [asked]
    assert player.now_ms == before_ms + failure.retry_after_ms + 250


@pytest.mark.parametrize("kind", problem_kinds(), ids=lambda kind: kind.name)
def test_only_a_refusal_that_asks_for_a_login_or_a_session_logs_out(kind: ProblemKind) -> None:
    player, asked = refreshing()
    player.give(RefreshAnswered(asked.generation, Failure(problem(kind.recovery, kind.name))))
    over = kind.recovery in {Recovery.LOG_IN, Recovery.START_SESSION}
    assert player.core.end == (End(kind.name) if over else None)


def test_the_end_names_the_reason_of_the_problem() -> None:
    player, asked = refreshing()
    ended = problem(Recovery.START_SESSION, "session-ended", "idle")
    assert SessionEnded(End("idle")) in player.give(RefreshAnswered(asked.generation, Failure(ended)))


def test_a_refresh_that_is_answered_after_a_logout_is_dropped() -> None:
    player, asked = refreshing()
    player.give(LoggedOut())
    assert player.give(RefreshAnswered(asked.generation, tokens("newer"))) == []
    assert player.core.end == End("logout")
    assert (player.core.tokens.access_token, player.core.tokens.refresh_token) == ("", "")
    assert player.core.next_wake_ms() is None


def test_a_refresh_that_a_login_overtook_does_not_log_out() -> None:
    player, asked = refreshing()
    player.give(TokensArrived(tokens("of the login")))
    player.give(RefreshAnswered(asked.generation, Failure(problem(Recovery.LOG_IN, "credential-invalid"))))
    assert player.core.end is None
    assert player.core.tokens.access_token == "of the login"


def test_a_refused_call_ends_the_session_only_with_the_newest_token() -> None:
    ended = problem(Recovery.START_SESSION, "session-ended", "revoked")
    player = Player()
    player.give(CallRefused("much older", ended))
    assert player.core.end is None
    player.give(CallRefused("older", ended))
    assert player.core.end == End("revoked")


def test_a_call_that_needs_a_recent_login_does_not_log_out() -> None:
    player = Player()
    player.give(CallRefused("older", problem(Recovery.LOG_IN, "login-too-old")))
    assert player.core.end is None


@pytest.mark.parametrize("code", [*CODES, 1006, 3000])
def test_a_close_code_is_followed_as_the_table_says(code: int) -> None:
    player = connected()
    out = player.give(SocketClosed(code, "why"))
    match CODES.get(code, ClientAction.RECONNECT):
        case ClientAction.LOG_IN | ClientAction.START_SESSION:
            assert isinstance(out[-1], SessionEnded)
            assert player.core.next_wake_ms() is None
        case ClientAction.FIX_CLIENT | ClientAction.ASK_USER | ClientAction.NONE:
            assert out == [Stopped(code, "why")]
            assert attempts(player) == 1
        case ClientAction.RECONNECT:
            assert out[0] == Disconnected(code, "why")
            assert attempts(player) == 2
        case ClientAction.REFRESH:
            [asked] = [each for each in out if isinstance(each, Refresh)]
            assert attempts(player) == 1, "not with the token that was refused"
            player.give(RefreshAnswered(asked.generation, tokens("newer")))
            assert player.of(OpenSocket)[-1] == OpenSocket("newer")


def attempts(player: Player) -> int:
    """Let a minute pass, and return how often the client has tried to connect."""
    player.now_ms += 60_000
    player.give(Tick())
    return len(player.of(OpenSocket))


def test_waits_have_full_jitter_and_double_up_to_half_a_minute() -> None:
    player = Player(chance=1.0)
    waits = []
    for _ in range(9):
        before_ms = player.now_ms
        player.give(HandshakeFailed(Failure()))
        while not any(isinstance(each, OpenSocket) for each in player.wait()):
            pass
        waits.append(player.now_ms - before_ms)
    assert waits == [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]


@pytest.mark.parametrize(("lasted_ms", "wait_ms"), [(59_999, 1000), (60_000, 500)])
def test_only_a_steady_connection_makes_the_next_wait_short_again(lasted_ms: int, wait_ms: int) -> None:
    player = Player(chance=1.0)
    player.give(HandshakeFailed(Failure()))
    player.wait()
    player.give(SocketOpened())
    player.now_ms += lasted_ms
    player.give(SocketClosed(1006))
    assert player.core.next_wake_ms() == player.now_ms + wait_ms


def test_a_refused_handshake_waits_as_the_server_asks_or_stops() -> None:
    player = Player()
    player.give(HandshakeFailed(Failure(problem(Recovery.RETRY_LATER), retry_after_ms=7000)))
    assert player.core.next_wake_ms() == 7000
    player.wait()
    stopped = player.give(HandshakeFailed(Failure(problem(Recovery.FIX_REQUEST, "origin-refused"))))
    assert stopped == [Stopped(401, "origin-refused")]
    assert attempts(player) == 2


def test_no_more_intents_are_unanswered_than_the_server_takes() -> None:
    player = connected()
    for number in range(3):
        player.give(IntentSubmitted(f"i{number}", "notes.create", {}))
    assert [each["id"] for each in player.sent] == ["i0", "i1"]
    answer = (
        '{"type":"refused","intent_id":"i0",'
        '"problem":{"type":"urn:interlock:problem:x","status":400,"recovery":"fix_request"}}'
    )
    player.give(TextReceived(answer))
    assert [each["id"] for each in player.sent] == ["i0", "i1", "i2"]


def test_an_intent_over_a_limit_is_sent_again_after_the_wait() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "notes.create", {}))
    limited = (
        '{"type":"refused","intent_id":"i1","retry_after_s":3,'
        '"problem":{"type":"urn:interlock:problem:rate-limited","status":429,"recovery":"retry_later"}}'
    )
    assert player.give(TextReceived(limited)) == []
    player.sent.clear()
    player.wait()
    assert (player.now_ms, [each["id"] for each in player.sent]) == (3000, ["i1"])


def test_an_intent_is_not_sent_before_the_stream_has_told_what_became_of_it() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "notes.create", {}))
    player.give(SocketClosed(1006))
    player.wait()
    player.give(SocketOpened())
    player.sent.clear()
    player.give(TextReceived(HELLO.replace('"offset":0', '"offset":1')))
    player.give(TextReceived('{"type":"resumed","epoch":"first","offset":0}'))
    assert [each["type"] for each in player.sent] == ["resume"]
    accepted = (
        '{"type":"accepted","intent_id":"i1","execution_id":"e","offset":1,"receipt":{"position":9,"digest":"d"}}'
    )
    player.give(TextReceived(accepted))
    assert [each["type"] for each in player.sent] == ["resume"], "the server has it"


def test_what_comes_before_the_answer_to_a_resume_is_ignored() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "agent.ask", {}))
    player.give(SocketClosed(1006))
    player.wait()
    player.give(SocketOpened())
    player.give(TextReceived(HELLO))
    progress = '{"type":"progress","intent_id":"i1","execution_id":"e","attempt":1,"data":["word"],"offset":1}'
    for text in (progress, '{"type":"resumed","epoch":"first","offset":0}', progress):
        player.give(TextReceived(text))
    assert len(player.of(IntentProgress)) == 1


def test_an_intent_whose_answer_a_gap_may_hide_is_asked_for_again() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "agent.ask", {}))
    player.give(TextReceived('{"type":"gap","epoch":"first","offset":7}'))
    assert [each["id"] for each in player.sent] == ["i1", "i1"]


def test_an_intent_asked_for_after_a_gap_is_asked_for_until_it_is_answered() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "agent.ask", {}))
    accepted = (
        '{"type":"accepted","intent_id":"i1","execution_id":"e","offset":1,"receipt":{"position":9,"digest":"d"}}'
    )
    player.give(TextReceived(accepted))
    player.give(TextReceived('{"type":"gap","epoch":"first","offset":7}'))
    player.give(SocketClosed(1006))
    player.sent.clear()
    player.wait()
    player.give(SocketOpened())
    player.give(TextReceived(HELLO.replace('"offset":0', '"offset":7')))
    player.give(TextReceived('{"type":"resumed","epoch":"first","offset":7}'))
    assert [each["type"] for each in player.sent] == ["resume", "intent"]


def test_leaving_closes_the_socket_and_sends_nothing_more() -> None:
    player = connected()
    player.give(IntentSubmitted("i1", "notes.create", {}))
    assert player.give(ConnectionWanted(wanted=False)) == [CloseSocket()]
    out: list[Output] = player.give(TokensArrived(tokens("newer")))
    assert not [each for each in out if isinstance(each, Send)]
