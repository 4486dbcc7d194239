"""The texts of refusals and faults."""

from __future__ import annotations

import re

import pytest

from interlock.machine.errors import TransitionRefused
from interlock.machine.explain import (
    altered,
    beyond_head,
    broken_head,
    broken_receipt,
    out_of_place,
    refusal,
    short_of,
)
from interlock.machine.ledger import HEAD_LAG, Receipt
from interlock.machine.session.commands import Connect, Data, Disconnect, Expire, Reauthenticate, Refresh, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.machine.session.words import WORDS
from interlock.spec.lifecycles import SESSION
from tests.machine.samples import CREATE, LOGIN, OPEN, session_after

_ALIVE = "`alive`: Now is before the idle deadline and before the absolute deadline."


def _refused(session: Session, data: Data, now_ms: int) -> str:
    with pytest.raises(TransitionRefused) as caught:
        SESSION_MACHINE.table.step(session.state, data.event, session, data, now_ms)
    return refusal(SESSION_MACHINE, caught.value, session, data)


@pytest.mark.parametrize(
    ("session", "data", "now_ms", "says"),
    [
        (
            session_after((CREATE, 0)),
            OPEN,
            1,
            "connect from created. The declaration has connect from authenticated and connected only.",
        ),
        (
            SESSION_MACHINE.absent("s"),
            Touch(),
            1,
            "touch before create. The declaration has touch from created, authenticated and connected only.",
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0)),
            CREATE,
            1,
            "create from authenticated. The declaration has create as a session's first record only.",
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0)),
            Disconnect("tab", 1000),
            1,
            "disconnect from authenticated. The declaration has disconnect from connected only.",
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0)),
            Expire("idle"),
            1,
            (
                "expire from authenticated: guard `not alive` fails: the session lives until 1970-01-01T00:00:01.000Z, its"
                f" idle deadline. {_ALIVE}"
            ),
        ),
        (
            session_after(
                (CREATE, 0), (LOGIN, 0), *((Touch(), at_ms) for at_ms in range(900, 4600, 900)), (Touch(), 4_500)
            ),
            OPEN,
            5_000,
            (
                "connect from authenticated: guard `alive` fails: the session lived until 1970-01-01T00:00:05.000Z, its"
                f" absolute deadline. {_ALIVE}"
            ),
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0)),
            Reauthenticate("bob", "password"),
            1,
            (
                "reauthenticate from authenticated: guard `same_subject` fails: the session is of alice, and this is bob."
                " `same_subject`: The command names the subject the session already belongs to."
            ),
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0)),
            Disconnect("tab 9", 1000),
            1,
            (
                "disconnect from connected: guard `known_connection` fails: the session holds tab, and this is tab 9."
                " `known_connection`: The connection the command names is one the session holds."
            ),
        ),
        (
            session_after((CREATE, 0)),
            Refresh(0, 4),
            1,
            (
                "refresh from created: guard `rotation_honoured` fails: the session is at epoch 0 and may honour rotation 0,"
                " and this is epoch 0, rotation 4. `rotation_honoured`: The presented refresh token is of the current epoch,"
                " and the one it was issued to may still hold it."
            ),
        ),
        (
            session_after((CREATE, 0), (LOGIN, 0), (OPEN, 0), (Connect("tab 2", "node"), 0)),
            Connect("tab 3", "node"),
            1,
            (
                "connect from connected: guard `below_connection_limit` fails: the session holds 2 of 2 connections."
                " `below_connection_limit`: The session holds fewer live connections than its limit."
            ),
        ),
    ],
)
def test_a_refusal_explains_the_failed_guard(session: Session, data: Data, now_ms: int, says: str) -> None:
    assert _refused(session, data, now_ms) == f"refused: {says}"


def test_every_guard_has_an_explanation() -> None:
    assert {name.removeprefix("not ") for name in WORDS.facts} == {guard.name for guard in SESSION.guards}


@pytest.mark.parametrize(
    ("version", "at", "says"),
    [
        (2, 1, "the record was changed, or is not the one that was written here"),
        (2, 2, "version 2 of its session was recorded before, so a record was repeated or moved"),
        (3, 1, "it is version 3 of a session that is at 1, so a record was removed or moved"),
        (2, None, "its session had ended before, so a record was repeated or moved"),
    ],
)
def test_a_wrong_digest_is_explained(version: int, at: int | None, says: str) -> None:
    before = None if at is None else Session("s", "created", at)
    assert altered("session", version, before) == f"digest does not match the record and the one before it: {says}"


@pytest.mark.parametrize(
    ("position", "last", "says"),
    [
        (4, 4, "follows record 4: it is duplicated, or out of order"),
        (3, 4, "follows record 4: it is duplicated, or out of order"),
        (6, 4, "follows record 4: record 5 is missing"),
        (9, 4, "follows record 4: records 5 to 8 are missing"),
    ],
)
def test_a_wrong_position_is_explained(position: int, last: int, says: str) -> None:
    assert out_of_place(position, last) == says


_THIS, _OTHER = Receipt(655, "ab" * 32), Receipt(655, "cd" * 32)


def test_a_kept_promise_has_no_explanation() -> None:
    assert broken_head(_THIS, _THIS, 700) is None
    assert broken_receipt(_THIS, _THIS, 700) is None


@pytest.mark.parametrize(
    ("there", "end", "head", "receipt"),
    [
        (
            _OTHER,
            700,
            "record 655 has another digest than its signed head says: the log was rewritten from there or before",
            "record 655 has another digest: the log was rewritten from there or before",
        ),
        (None, 700, "record 655 is missing, and its signed head says it was there", "record 655 is missing"),
        (
            None,
            640,
            "the log ends at record 640; its signed head says 655: the last 15 records were removed",
            "the log ends at 640: records were removed",
        ),
        (
            None,
            654,
            "the log ends at record 654; its signed head says 655: the last record was removed",
            "the log ends at 654: records were removed",
        ),
    ],
)
def test_a_broken_promise_is_explained(there: Receipt | None, end: int, head: str, receipt: str) -> None:
    assert (broken_head(_THIS, there, end), broken_receipt(_THIS, there, end)) == (head, receipt)


def test_the_allowed_tail_after_a_head_depends_on_how_the_log_stopped() -> None:
    assert beyond_head(5, 5, final=True) is None
    assert beyond_head(5, 5 + HEAD_LAG, final=False) is None
    assert "stopped at 5" in str(beyond_head(5, 6, final=True))
    assert re.findall(r"\d+", str(beyond_head(5, 7, final=True))) == ["7", "5", "2"]
    assert str(HEAD_LAG + 1) in str(beyond_head(5, 6 + HEAD_LAG, final=False))


def test_a_log_shorter_than_known_is_explained() -> None:
    assert short_of(5, 5) is None
    assert re.findall(r"\d+", str(short_of(5, 4))) == ["4", "5"]
