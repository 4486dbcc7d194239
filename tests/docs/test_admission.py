"""The page on admission names every limit and its default, and where words that make passwords easy are named."""

from __future__ import annotations

import pytest

from server.settings import setting_rows
from tests.docs.pages import DOCS

PAGE = (DOCS / "explanation" / "admission.md").read_text()


@pytest.mark.asvs("6.1.1")
def test_every_limit_is_explained_with_its_default() -> None:
    limits = [row for row in setting_rows() if row.name.startswith("limit_")]
    assert len(limits) >= 8
    for row in limits:
        assert any(f"`{row.name}`" in line and f"| {row.default} |" in line for line in PAGE.splitlines()), row.name


@pytest.mark.asvs("6.1.2")
def test_the_words_that_are_near_are_named() -> None:
    for name in ("password_context_words", "issuer", "audience"):
        assert f"`{name}`" in PAGE


@pytest.mark.asvs("7.1.2")
def test_how_many_sessions_an_account_may_have_is_said() -> None:
    assert "How many **sessions** an account may have is not limited" in PAGE
