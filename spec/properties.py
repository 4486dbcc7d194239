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
_TRACES: Final = "tests/spec/test_traces.py::test_what_is_wrong_is_named_at_the_line_where_it_first_shows"

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
    Property(
        "acknowledged_logged",
        "What a caller was told is recorded, is in the log.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "cache_is_fold",
        "What a node says of a session is the fold of that session's log at some version that is durable.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "view_monotonic",
        "A node never tells an older version of a session than it told before.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "no_lost_update",
        "A record follows the very version it was decided on.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "revocation_fence",
        "Once the end of a session is acknowledged by a node, no socket of the session is open on it.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "open_guard",
        "A socket is open only on the node that owns its connection: opened while the session holds it, gone before"
        " the disconnect is recorded.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "single_owner",
        "A connection is connected once, by the node that holds its socket.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "orphan_reaped",
        "After a start no session holds a connection of the process that ended before.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
    Property(
        "crashed_recovers",
        "A node that starts disconnects what its former self left, once, before it records anything else.",
        liveness=False,
        checked_in=(_TRACES,),
    ),
)
