"""Contract of the lists of instances: see ``surface_contract.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from interlock.machine.session.commands import Revoke
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.sqlite.files import Surface
from tests.support.asynchronous import asynchronous
from tests.support.steps import NOW_MS, POLICY, Story


class DirectoryContract(ABC):
    """Contract of :class:`interlock.server.surface.directory.Directory`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Surface]:
        """Open the implementation under test over ``folder``."""

    @asynchronous
    async def test_filtered_lists_are_exact_newest_first_and_paged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            sessions = await _population(surface)
            for wanted in filters():
                expected = _expected(sessions, wanted)
                found: list[Session] = []
                before: Cursor | None = None
                while page := await surface.directory.page(SESSION_MACHINE, wanted, before, 3):
                    found += page
                    before = wanted.cursor_of(page[-1])
                assert found == expected, wanted
                assert await surface.directory.page(SESSION_MACHINE, wanted, None, 100) == expected

    @asynchronous
    async def test_a_cursor_beyond_the_range_starts_at_the_range(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            sessions = await _population(surface)
            wanted = InstanceFilter(created_to_ms=NOW_MS + 8)
            late = Cursor(NOW_MS + 1000, "z")
            assert await surface.directory.page(SESSION_MACHINE, wanted, late, 100) == _expected(sessions, wanted)


def filters() -> list[InstanceFilter]:
    """Return every valid combination of filters."""
    ranges: list[tuple[int | None, int | None]] = [
        (None, None),
        (NOW_MS + 4, None),
        (None, NOW_MS + 9),
        (NOW_MS + 4, NOW_MS + 9),
    ]
    every = [
        InstanceFilter(state, subject, reason, *created, *updated)
        for state in (None, "created", "authenticated", "expired")
        for subject in (None, "ada", "nobody")
        for reason in (None, "logout")
        for created in ranges
        for updated in ranges
    ]
    every += [
        InstanceFilter(state, "ada", created_from_ms=low, created_to_ms=high, alive_at_ms=at_ms)
        for state in (None, "authenticated", "expired")
        for low, high in ranges
        for at_ms in (NOW_MS, NOW_MS + POLICY.idle_timeout_ms + 7)
    ]
    return [wanted for wanted in every if not (wanted.of_creation and wanted.by_update)]


async def _population(surface: Surface) -> list[Session]:
    stories = [Story(f"s{n:02}", at_ms=NOW_MS + n // 2) for n in range(24)]
    for n, story in enumerate(stories):
        await surface.log.append(story.begin([None, "ada", "bob"][n % 3]))
    for n, story in enumerate(stories):
        story.at_ms = NOW_MS + 20 - n
        if n % 4 == 0:
            await surface.log.append(story.touch())
        if n % 5 == 0:
            await surface.log.append(story.tell(Revoke("logout" if n % 2 else "revoked")))
    return [story.session for story in stories]


def _expected(sessions: list[Session], wanted: InstanceFilter) -> list[Session]:
    def within(at_ms: int, low: int | None, high: int | None) -> bool:
        return (low is None or at_ms >= low) and (high is None or at_ms < high)

    chosen = [
        session
        for session in sessions
        if wanted.state in {None, session.state}
        and wanted.owner in {None, session.subject}
        and wanted.reason in {None, session.reason}
        and (wanted.alive_at_ms is None or (not session.ended and wanted.alive_at_ms < session.deadline_ms))
        and within(session.created_at_ms, wanted.created_from_ms, wanted.created_to_ms)
        and within(session.updated_at_ms, wanted.updated_from_ms, wanted.updated_to_ms)
    ]
    return sorted(chosen, key=wanted.cursor_of, reverse=True)
