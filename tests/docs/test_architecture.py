"""Everything that the page on architecture names exists."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.source import ROOT


def test_every_file_named_on_the_architecture_page_exists() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = re.findall(r"`((?:spec|machine|server|interlock)/[\w/]+\.py)`", page)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_no_folder_holds_more_than_a_dozen_files_of_code() -> None:
    files = [path for folder in ("spec", "machine", "server", "interlock") for path in (ROOT / folder).rglob("*.py")]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > 12} == {}
