"""The Python client keeps to the golden dialogues: it sends what they show, and tells the application what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.client.words import End, IntentAccepted, IntentProgress, IntentRefused
from tests.clients.replaying import KEPT, outcomes, replay

BY_NAME = {path.stem: path for path in KEPT}


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_client_keeps_to_the_dialogue(path: Path) -> None:
    replay(path)


def test_progress_and_outcome_arrive_once_over_a_broken_connection() -> None:
    player = replay(BY_NAME["resume"])
    assert [each.value for each in player.of(IntentProgress)] == [1, 2, 3]
    assert len(player.of(IntentAccepted)) == 1
    assert [(each.intent_id, each.state) for each in outcomes(player)] == [("i1", "succeeded")]


def test_a_refused_intent_is_told_with_its_problem() -> None:
    [refused] = replay(BY_NAME["refused"]).of(IntentRefused)
    assert (refused.intent_id, refused.problem.name) == ("i1", "intent-unknown")


def test_an_intent_that_a_restart_lost_is_accepted_only_once_here() -> None:
    assert len(replay(BY_NAME["restart"]).of(IntentAccepted)) == 1


def test_a_revoked_session_is_over_for_the_reason_in_the_close() -> None:
    assert replay(BY_NAME["revoked"]).core.end == End("revoked")


def test_a_client_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(
        BY_NAME["resume"].read_text().replace('"offset":2}\nS {"type":"resumed"', '"offset":1}\nS {"type":"resumed"')
    )
    with pytest.raises(AssertionError, match="the client sends"):
        replay(path)
