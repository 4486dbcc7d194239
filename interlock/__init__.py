"""Interlock, a session-lifecycle server: the one name that an installation puts beside other packages.

``interlock.spec`` says what may happen, ``interlock.machine`` makes it happen in memory, ``interlock.server`` over disk and
network. In the repository they are links to the folders at its top. The names below are for programs: the code of an
application that handles intents, and the client of a program that has sessions.
"""

from typing import TYPE_CHECKING, Any

from interlock.context import Context, Fence, Outcome, Submitted
from interlock.machine.errors import IntentFailed
from interlock.realm import Realm

if TYPE_CHECKING:
    from interlock.client import Client

__all__ = ["Client", "Context", "Fence", "IntentFailed", "Outcome", "Realm", "Submitted"]


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for: a realm needs no HTTP libraries."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from interlock.client import Client

    return Client
