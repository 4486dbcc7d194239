"""Every promised property: what it says, and the tests that would fail if it were broken.

A property is listed once something checks it, and names only what checks it. That every place exists is itself tested.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Property(msgspec.Struct, frozen=True):
    """One promise. ``checked_in`` names pytest nodes, ``file::test`` or ``file::Class``, from the repository's root."""

    name: str
    statement: str
    liveness: bool
    checked_in: tuple[str, ...]


_EXHAUSTIVE: Final = "tests/machine/test_exhaustive.py::test_every_edge_keeps_every_promise"
_RANDOM: Final = "tests/machine/test_session_machine.py::TestSession"
_LEDGER: Final = "tests/machine/test_ledger.py::"

PROPERTIES: Final[tuple[Property, ...]] = (
    Property(
        "declared_only",
        "Every record's source, event, guards and target are a row of the declaration; its source is the target of the"
        " record before; the first record of a session is its creation.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM, _LEDGER + "test_what_was_not_declared_is_found"),
    ),
    Property(
        "expired_absorbs",
        "Nothing follows the end of a session.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM, _LEDGER + "test_a_record_after_the_end_is_found"),
    ),
    Property(
        "authentication_first",
        "A session connects only after a login.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
    Property(
        "owner_coherence",
        "A session is connected exactly while it holds a connection.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
    Property(
        "command_once",
        "A log that holds the same command twice for one session is refused.",
        liveness=False,
        checked_in=(_LEDGER + "test_a_repeated_command_is_found",),
    ),
    Property(
        "versions_gapless",
        "The versions of a session count from 1 without a gap.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM, _LEDGER + "test_a_version_gap_is_found"),
    ),
    Property(
        "replay_equals_state",
        "The session in memory is the fold of its log.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
    Property(
        "no_early_expiry",
        "A session expires only once a deadline that follows from its log has passed; from then on nothing renews it.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
    Property(
        "rotation",
        "A refresh is recorded for the current refresh token alone. The one before it is a repetition within the grace;"
        " any older one of the same epoch counts as reuse.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
    Property(
        "refusal_changes_nothing",
        "A refused command leaves the session as it was.",
        liveness=False,
        checked_in=(_EXHAUSTIVE, _RANDOM),
    ),
)
