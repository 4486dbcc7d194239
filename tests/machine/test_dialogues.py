"""Golden dialogues: text files that clients can replay too. See ``dialogues/README.md``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dialogues import DIALOGUES, replay


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_the_server_keeps_to_the_dialogue(path: Path) -> None:
    assert replay(path)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('connect\nS {"type":"pong"}\n', "the server sends"),
        ("connect\nC {}\n", "not expected"),
        ("connect\n", "not expected"),
        ('C {"type":"ping"}\n', "no connection is open"),
    ],
    ids=["another message", "a message left over", "a message at the end", "no connection"],
)
def test_a_wrong_dialogue_is_noticed(tmp_path: Path, lines: str, why: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(lines)
    with pytest.raises(AssertionError, match=why):
        replay(path)
