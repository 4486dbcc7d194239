"""Every bound of the model, with its reason. The search is complete within these bounds; nothing is claimed beyond them."""

from __future__ import annotations

from typing import Final

import msgspec


class Bound(msgspec.Struct, frozen=True):
    """A number that the model is built with: ``quick`` in every run, ``deep`` in the deeper one."""

    name: str
    quick: int
    deep: int
    reason: str


_COMMON: Final = (
    Bound("CONNECTION_LIMIT", 2, 2, "A session with two tabs has every case of first, further and last connection."),
    Bound("COMMANDS", 2, 2, "Ids that may arrive again. One command repeats at either node, the other races with it."),
)

SAFETY: Final = (
    Bound("DECISIONS", 5, 6, "Accepted client commands: create, log in, two connects and one more; refusals are free."),
    *_COMMON,
    Bound("CRASHES", 2, 2, "A crash between any two steps; the second may hit the recovery, or the other node."),
    Bound("DROPS", 2, 2, "Peers that vanish: both of a session's sockets can."),
)

REPLAY: Final = (
    Bound("DECISIONS", 4, 5, "One less than without the log: keeping it makes every history a state of its own."),
    Bound("LOG_LENGTH", 7, 8, "The client's decisions, two disconnects and one expiry: the longest log there can be."),
    *_COMMON,
    Bound("CRASHES", 1, 1, "One recovery reads the whole log."),
    Bound("DROPS", 1, 1, "One disconnect that no client asked for."),
)

LIVENESS: Final = (
    Bound(
        "DECISIONS",
        4,
        5,
        "Create, log in, connect and one more; fairness multiplies the states by the number of tasks.",
    ),
    *_COMMON,
    Bound("CRASHES", 1, 1, "One node dies and has to come back; the other goes on."),
    Bound("DROPS", 1, 1, "One socket is gone and has to be noticed."),
)

RESTING: Final = (
    Bound(
        "DECISIONS", 3, 4, "That all rest in the end is looked for from every state on: the dearest of the searches."
    ),
    *LIVENESS[1:],
)

ROTATION: Final = (
    Bound("TABS", 3, 3, "One that exchanges, one that repeats, and one that was loaded in between."),
    Bound("ROTATIONS", 5, 6, "Each answer takes one; four set the cookie back to a token that was used before."),
    Bound("EPOCHS", 0, 0, "No login: it makes what was issued before worthless, and the check `theft` has one."),
)

THEFT: Final = (
    Bound("TABS", 2, 2, "The owner's tabs; more than one, so that the copy may pass for one of them."),
    Bound("ROTATIONS", 4, 4, "Two exchanges of the owner and two of the copy."),
    Bound("EPOCHS", 1, 2, "A login, and a second one after tokens of the first have gone round."),
)

DURABILITY: Final = (
    Bound("RECORDS", 4, 6, "Two batches of two, or four of one, so that a hole can lie before, in and after a batch."),
    Bound("RESTARTS", 2, 3, "A kill before and one after the failure of an fsync."),
    Bound("CUTS", 1, 2, "A power cut ends what the disk did not get; a second finds what the first recovery wrote."),
    Bound("FAILURES", 1, 2, "One fsync that fails; the server must not need a second to notice."),
)

ACCOUNT: Final = (
    Bound("SESSIONS", 2, 2, "One that asks for a change and one that is to end, or a login that is overtaken."),
    Bound("CHANGES", 2, 3, "Two that overtake each other; the deeper run has one more after them."),
    Bound("CODES", 1, 1, "One, which a reset may use, or anything that voids it overtake."),
    Bound("CLOSINGS", 2, 2, "A disable, and a delete or, after an enable, another disable."),
    Bound("ADMINISTRATORS", 2, 2, "One may repeat or undo what the other is doing."),
    Bound("CRASHES", 1, 2, "Between a record and the ends that follow from it; the second may hit the start."),
)

SECRET: Final = (
    Bound("CHANGES", 4, 6, "The file goes and comes back twice: an act of an older life meets a newer one."),
    Bound("CRASHES", 1, 2, "Between a change and its record; the second may hit the start."),
)

EXECUTION: Final = (
    Bound("ATTEMPTS", 2, 3, "Starts, where the server allows five: the last one is lost to the last crash."),
    Bound("TRIES", 2, 3, "Each of two clients submits the intent, and once more after the answer or a crash."),
    Bound(
        "CRASHES",
        2,
        3,
        "A crash while it waits, runs or has a result; the second may hit the start or the second attempt.",
    ),
)

GROUPS: Final[dict[str, tuple[Bound, ...]]] = {
    "lifecycle": SAFETY,
    "replay": REPLAY,
    "liveness": LIVENESS,
    "views_catch_up": RESTING,
    "rotation": ROTATION,
    "theft": THEFT,
    "durability": DURABILITY,
    "account": ACCOUNT,
    "secret": SECRET,
    "execution": EXECUTION,
}
"""The bounds of each group of checks."""


def described(*, deep: bool) -> str:
    """Return every bound, one line for each group."""
    return "\n".join(
        f"{group}: " + ", ".join(f"{bound.name} {bound.deep if deep else bound.quick}" for bound in bounds)
        for group, bounds in GROUPS.items()
    )
