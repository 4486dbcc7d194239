"""What the page on architecture points at is there."""

from __future__ import annotations

import re

from tests.support.source import ROOT


def test_every_file_that_it_names_is_there() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = re.findall(r"`((?:spec|machine|server)/[\w/]+\.py)`", page)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []
