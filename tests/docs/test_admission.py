"""The page on admission names every limit with its default, and the context-specific words of passwords."""

from __future__ import annotations

import pytest

from interlock.server.experience.credentials import DEVICE_COOKIE
from interlock.server.guard.throttling import devices, logins
from interlock.server.settings_loading import setting_rows
from tests.docs.pages import DOCS

PAGE = (DOCS / "explanation" / "admission.md").read_text()
TEXT = " ".join(PAGE.split())


@pytest.mark.asvs("6.1.1")
def test_every_limit_is_explained_with_its_default() -> None:
    limits = [row for row in setting_rows() if row.name.startswith("limit_")]
    assert len(limits) >= 8
    for row in limits:
        assert any(f"`{row.name}`" in line and f"| {row.default} |" in line for line in PAGE.splitlines()), row.name


@pytest.mark.asvs("6.1.1")
def test_the_page_says_why_nobody_can_lock_the_owner_out() -> None:
    assert f"`{DEVICE_COOKIE}`, for half a year" in TEXT
    assert devices.LIFE_S == 180 * 86_400
    assert "the eight latest" in TEXT
    assert logins._PLACES_PER_ACCOUNT == 8


@pytest.mark.asvs("6.1.2")
def test_the_sources_of_forbidden_password_words_are_named() -> None:
    words = TEXT.partition("**context-specific words**")[2].partition(". ")[0]
    for name in ("`issuer`", "`audience`", "`interlock`", "`password_context_words`"):
        assert name in words
