"""Bugs in what realms are written with: which attempt may commit, and what counts as its result."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

OF_REALM: Final[tuple[Mutant, ...]] = (
    Mutant(
        "An attempt that is closed may commit if no other has.",
        "committed_is_outcome",
        "test_a_closed_attempt_can_not_commit_and_the_next_one_can",
        at("store:SqlStore.__init__", in_text(".attempt < excluded.attempt", ".attempt < excluded.attempt + 9")),
    ),
    Mutant(
        "A second attempt commits over the result of the first.",
        "committed_is_outcome",
        "test_at_most_one_attempt_commits_in_any_order",
        at("store:SqlStore.__init__", in_text(".result IS NULL AND", ".attempt > 0 AND")),
    ),
    Mutant(
        "A refused commit leaves its effects to whatever is committed next on the connection.",
        "committed_is_outcome",
        "test_a_closed_attempt_can_not_commit_and_the_next_one_can",
        at("store:SqlStore._commit", drop("connection.rollback()")),
    ),
    Mutant(
        "Effects commit one by one, before the outcome.",
        "committed_is_outcome",
        "test_a_connection_that_commits_each_statement_is_refused",
        at(
            "store:_commits_each_statement",
            replace("getattr(connection, 'autocommit', False) is True or old_mode", "False"),
        ),
    ),
    Mutant(
        "Cancelled code closes its connection while the commit is under way.",
        "committed_is_outcome",
        "test_a_cancelled_commit_has_ended_before_its_code_goes_on",
        at("store:in_thread", drop("await asyncio.wait({running})")),
    ),
    Mutant(
        "What the code returns after its commit is its result.",
        "committed_is_outcome",
        "test_the_committed_result_is_the_outcome",
        at("realm:Intent.run", replace("self.effects != 'transactional'", "True")),
    ),
)
