"""The page on remote realms: its code is that of the realm that the tests run, and its numbers are those of the code."""

from __future__ import annotations

from typing import get_args

from interlock.intents import MAX_ERROR_CHARACTERS, MAX_RESULT_BYTES
from interlock.machine.execution.commands import Effects
from interlock.server.outgoing.signatures import TOLERANCE_S
from interlock.server.runtime.executions.remote_realms import LONGEST_PAUSE_S, MAX_ANSWER_BYTES
from tests.docs.pages import DOCS, ROOT, blocks, captioned

_PAGE = "how-to/remote-realm.md"
_JAVASCRIPT = ROOT / "tests" / "javascript"


def test_the_code_on_the_page_is_that_of_the_realm_in_the_tests() -> None:
    source = (_JAVASCRIPT / "realm.mjs").read_text()
    shown = [block.text for block in blocks(_PAGE) if block.language == "javascript"]
    assert len(shown) == 3
    assert [text for text in shown if text.strip() not in source] == []
    assert captioned(_PAGE, "billing.toml") == (_JAVASCRIPT / "billing.toml").read_text()


def test_the_pages_numbers_are_those_of_the_code() -> None:
    text = (DOCS / _PAGE).read_text()
    for said in (
        f"{MAX_ERROR_CHARACTERS} characters",
        f"An answer has at most {MAX_ANSWER_BYTES // 1024} KiB, and a result {MAX_RESULT_BYTES // 1024} KiB",
        f"a pause of up to {LONGEST_PAUSE_S:g} seconds",
        f"more than {TOLERANCE_S // 60} minutes",
    ):
        assert said in text, said
    assert all(f"`{each}`" in text for each in get_args(Effects))
