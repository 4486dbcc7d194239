"""Bugs in what WebSockets hear of executions: a client waits for an outcome that never comes, or misses a part unnoticed."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace, returns
from tests.mutants.mutant import Mutant

OF_STREAMS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "A client that resumes hears only what follows.",
        "outcome_reaches_client",
        "test_the_server_keeps_to_the_dialogue[resume]",
        at("conversation:Conversation._resume", replace("self._place = request.offset", "self._place = stream.offset")),
    ),
    Mutant(
        "What happens between the hello and the resume comes before the answer.",
        "outcome_reaches_client",
        "test_the_server_keeps_to_the_dialogue[resume]",
        at(
            "conversation:Conversation._greet",
            replace("self._held_until_ms = move.at_ms + RESUME_WAIT_MS", "self._held_until_ms = None"),
        ),
    ),
    Mutant(
        "A client whose place is no longer held is told that it misses nothing.",
        "outcome_reaches_client",
        "test_the_server_keeps_to_the_dialogue[gap]",
        at(
            "conversation:Conversation._resume",
            replace("stream.start <= request.offset <= stream.offset", "request.offset <= stream.offset"),
        ),
    ),
    Mutant(
        "A client of a stream that a restart ended continues in the new one.",
        "outcome_reaches_client",
        "test_the_server_keeps_to_the_dialogue[restart]",
        at(
            "conversation:Conversation._resume",
            replace(
                "request.epoch == stream.epoch and stream.start <= request.offset <= stream.offset",
                "request.offset >= stream.start",
            ),
        ),
    ),
    Mutant(
        "What was emitted just before the end is sent after the outcome.",
        "outcome_reaches_client",
        "test_the_outcome_comes_after_all_that_was_emitted_and_is_last",
        at("session.stream:Stream.end", drop("if execution_id in self._collected:\n    ...")),
    ),
    Mutant(
        "What is emitted while the outcome is read from beside the log comes before it.",
        "outcome_reaches_client",
        "test_what_is_emitted_after_the_recorded_end_is_dropped",
        at("streams:Streams.progress", drop("if execution_id in self._ending:\n    ...")),
    ),
    Mutant(
        "A slow reader's messages are dropped, and it hears of no gap.",
        "outcome_reaches_client",
        "test_a_client_that_reads_too_slowly_hears_of_the_gap",
        at("conversation:Conversation._skip_to", drop("self._say(Gap(...))")),
    ),
    Mutant(
        "Only the session that submitted an intent first hears of its outcome.",
        "outcome_reaches_client",
        "test_a_repeat_from_another_session_of_the_account_hears_the_outcome",
        at("streams:Streams._followed_by", returns("[execution.session_id]")),
    ),
    Mutant(
        "A repeat of an intent that has ended is accepted, and that is all.",
        "outcome_reaches_client",
        "test_a_repeated_intent_is_the_same_execution_and_executes_once",
        at("streams:Streams.repeat", drop("await self.follow(session_id, execution)")),
    ),
    Mutant(
        "A stopping server closes the WebSockets first, and lets executions end then.",
        "outcome_reaches_client",
        "test_a_stopping_server_closes_idle_sockets_first_and_sends_outcomes",
        at("streams:Streams.expects_outcome", returns("False")),
    ),
)
