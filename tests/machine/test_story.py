"""The story of a session's records, and its state at a moment."""

from __future__ import annotations

import pytest

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import parse
from interlock.machine.machine import Command
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Policy,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Connection
from interlock.machine.session.words import WORDS
from interlock.machine.story import describe, snapshot
from interlock.machine.times import rfc3339
from interlock.spec.lifecycles import SESSION
from tests.machine.samples import CREATE, LOGIN, OPEN, Step, history, rows_of

_LIFE: list[Step] = [
    (CREATE, 0),
    (LOGIN, 10),
    (OPEN, 20),
    (Connect("tab 2", "other node"), 30),
    (Refresh(1, 0), 40),
    (Disconnect("tab", 1006), 50),
    (Touch(), 60),
    (Reauthenticate("alice", "password"), 70),
    (Disconnect("tab 2", 4408), 75),
    (Connect("tab 3", "node"), 76),
    (Disconnect("tab 3", 3999), 77),
    (OPEN, 78),
    (Revoke("logout"), 80),
]


def _told(life: list[Step]) -> list[str]:
    steps, _ = describe(SESSION_MACHINE, "s", (parse(row, MACHINES) for row in rows_of(history("s", life))))
    return [f"{step.event}: {step.particulars}" for step in steps]


def test_each_record_is_told_as_a_declared_sentence_with_particulars() -> None:
    rows = rows_of(history("s", _LIFE))
    steps, session = describe(SESSION_MACHINE, "s", (parse(row, MACHINES) for row in rows))
    assert [step.version for step in steps] == [step.position for step in steps] == list(range(1, len(_LIFE) + 1))
    sentences = {event.name: event.description for event in SESSION.events}
    assert [step.sentence for step in steps] == [sentences[step.event] for step in steps]
    assert [(step.source, step.target) for step in steps][:3] == [
        (None, "created"),
        ("created", "authenticated"),
        ("authenticated", "connected"),
    ]
    assert (steps[1].at, steps[1].actor) == (rfc3339(10), "test")
    assert session == SESSION_MACHINE.replay("s", history("s", _LIFE))


def test_the_particulars_of_each_event() -> None:
    named = [
        ("create", "1 s", "5 s", "2"),
        ("authenticate", "alice", "password", "1"),
        ("connect", "tab", "node", "1"),
        ("connect", "tab 2", "other node", "2"),
        ("refresh", "0", "1"),
        ("disconnect", "tab", "node", "1006", "1"),
        ("touch",),
        ("reauthenticate", "alice", "password", "2"),
        ("disconnect", "tab 2", "other node", "4408", "token_expired", "0"),
        ("connect", "tab 3", "node", "1"),
        ("disconnect", "tab 3", "node", "3999", "0"),
        ("connect", "tab", "node", "1"),
        ("revoke", "logout", "1"),
    ]
    for said, words in zip(_told(_LIFE), named, strict=True):
        assert [word for word in words if word not in said] == []
    assert "idle" in _told([(CREATE, 0), (Expire("idle"), 1000)])[-1]


@pytest.mark.parametrize(
    ("age_ms", "says"),
    [
        (0, ""),
        (999, ""),
        (90_500, "90 s"),
        (604_800_000, "168 h"),
        (None, "nobody knows"),
    ],
)
def test_the_story_tells_the_age_of_an_authentication(age_ms: int | None, says: str) -> None:
    assert says in _told([(CREATE, 0), (Authenticate("alice", "oidc", age_ms), 10)])[1]


@pytest.mark.parametrize(("ms", "says"), [(7_200_000, "2 h"), (90_000, "90 s"), (120_000, "2 min"), (1_500, "1500 ms")])
def test_durations_are_human_readable(ms: int, says: str) -> None:
    assert f"after {says} without" in _told([(Create(Policy(ms, 1000, 1, 0)), 0)])[0]


def test_every_declared_event_has_a_story_and_a_possibility() -> None:
    declared = {event.name for event in SESSION.events}
    assert set(WORDS.particulars) < set(WORDS.likely) == declared


def _at(now_ms: int, *life: Step) -> dict[str, str]:
    session = SESSION_MACHINE.replay("s", history("s", life))
    return {each.event: each.target or each.refused or "" for each in snapshot(SESSION_MACHINE, session, now_ms).events}


def test_the_state_of_an_open_session_is_told() -> None:
    session = SESSION_MACHINE.replay("s", history("s", _LIFE[:8]))
    stands = snapshot(SESSION_MACHINE, session, 100)
    assert (stands.at, stands.version, stands.state, stands.stands["subject"]) == (
        rfc3339(100),
        8,
        "connected",
        "alice",
    )
    assert stands.stands == {
        "subject": "alice",
        "alive": True,
        "reason": None,
        "connections": (Connection("tab 2", "other node"),),
        "idle_expires_at": rfc3339(1070),
        "expires_at": rfc3339(5070),
        "epoch": 2,
        "rotation": 1,
    }


def test_a_deadline_decides_what_lives() -> None:
    session = SESSION_MACHINE.replay("s", history("s", [(CREATE, 0)]))
    assert [snapshot(SESSION_MACHINE, session, now_ms).stands["alive"] for now_ms in (999, 1000)] == [True, False]
    ended = SESSION_MACHINE.replay("s", history("s", [(CREATE, 0), (Revoke("logout"), 5)]))
    stands = snapshot(SESSION_MACHINE, ended, 6).stands
    assert (stands["alive"], stands["reason"]) == (False, "logout")


def test_possible_and_refused_events_are_listed() -> None:
    possible = _at(5, (CREATE, 0))
    for event, says in {
        "create": "create from created",
        "authenticate": "authenticated",
        "reauthenticate": "from authenticated and connected",
        "connect": "from authenticated and connected",
        "disconnect": "from connected",
        "refresh": "created",
        "touch": "created",
        "revoke": "expired",
        "expire": "`not alive`",
    }.items():
        assert says in possible[event]
    assert rfc3339(1000) in possible["expire"]
    overdue = _at(1000, (CREATE, 0))
    assert overdue["expire"] == overdue["revoke"] == "expired"
    assert "`alive`" in overdue["touch"]
    full = _at(40, *_LIFE[:4])
    assert "2 of 2" in full["connect"]
    assert full["disconnect"] == "connected"
    assert _at(25, *_LIFE[:3])["disconnect"] == "authenticated"


@pytest.mark.parametrize("length", range(1, len(_LIFE) + 1))
@pytest.mark.parametrize("now_ms", [100, 1_500])
def test_the_listed_possibilities_match_the_machines_decisions(length: int, now_ms: int) -> None:
    session = SESSION_MACHINE.replay("s", history("s", _LIFE[:length]))
    for each in snapshot(SESSION_MACHINE, session, now_ms).events:
        data: Data = WORDS.likely[each.event](session, now_ms)
        try:
            assert SESSION_MACHINE.decide(session, Command("new", "test", data), now_ms).target == each.target
        except TransitionRefused:
            assert each.target is None
