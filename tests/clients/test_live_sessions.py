"""What a back end believes about sessions, and for how long."""

from __future__ import annotations

from interlock.asgi.live_sessions import UNKNOWN, LiveSessions, Session, Use
from interlock.machine.closing import Close

ADA = Session("s1", "ada", "authenticated", token_expires_at=1000)


def sessions(cache_size: int = 10) -> LiveSessions:
    """Return what a back end holds that has just heard of the server, at 0 ms."""
    live = LiveSessions(stale_after_ms=60_000, cache_ms=10_000, cache_size=cache_size)
    live.hear(0)
    return live


def test_an_end_ends_the_uses_of_its_session_and_no_others() -> None:
    live, closes = sessions(), list[tuple[str, Close]]()

    def use(name: str) -> Use:
        return live.register(name, lambda close: closes.append((name, close)))

    uses = [use("s1"), use("s1"), use("s2")]
    live.leave(uses[0])
    live.end("s1", "logout")
    live.end("s1", "logout")
    assert closes == [("s1", Close("session_ended", "logout"))]
    assert [use.ended is not None for use in uses] == [False, True, False]


def test_a_token_is_believed_for_a_short_while() -> None:
    live = sessions()
    live.keep("t", ADA, 0)
    assert live.cached("t", 9_999, 0) == ADA
    assert live.cached("t", 10_000, 0) is None
    assert live.cached("t", 0, 999) == ADA
    assert live.cached("t", 0, 1000) is None, "the token itself has expired"


def test_an_end_makes_its_tokens_forgotten() -> None:
    live = sessions()
    live.keep("t", ADA, 0)
    live.keep("of another", Session("s2", "bob", "authenticated", 1000), 0)
    live.end("s1", "revoked")
    assert live.cached("t", 1, 0) is None
    assert live.cached("of another", 1, 0) is not None


def test_nothing_is_believed_after_a_break_or_without_a_stream() -> None:
    live = sessions()
    live.keep("t", ADA, 0)
    live.distrust()
    assert live.cached("t", 1, 0) is None
    never = LiveSessions(stale_after_ms=60_000, cache_ms=10_000, cache_size=10)
    never.keep("t", ADA, 0)
    assert never.cached("t", 1, 0) is None


def test_the_least_recently_used_token_makes_room() -> None:
    live = sessions(cache_size=2)
    for token in ("a", "b"):
        live.keep(token, ADA, 0)
    live.cached("a", 1, 0)
    live.keep("c", ADA, 1)
    assert [live.cached(token, 2, 0) is not None for token in ("a", "b", "c")] == [True, False, True]
    live.end("s1", "logout")


def test_everything_ends_when_the_server_is_silent_for_too_long() -> None:
    live, closes = sessions(), list[Close]()
    live.register("s1", closes.append)
    live.end_stale(59_999)
    assert closes == []
    live.end_stale(60_000)
    assert closes == [UNKNOWN]


def test_nothing_is_kept_of_what_is_over() -> None:
    live = sessions()
    for number in range(100):
        use = live.register(f"s{number}", lambda _: None)
        live.keep(f"t{number}", Session(f"s{number}", "ada", "authenticated", 1000), 0)
        live.end(f"s{number}", "logout")
        live.leave(use)
    assert (live._uses, live._found, live._tokens) == ({}, {}, {})
