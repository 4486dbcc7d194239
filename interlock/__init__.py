"""Interlock, a session-lifecycle server: the one name that an installation puts beside other packages.

``interlock.spec`` says what may happen, ``interlock.machine`` makes it happen in memory, ``interlock.server`` over disk and
network. In the repository they are links to the folders at its top. The names below are for realms: the code of an application
that handles intents.
"""

from interlock.context import Context, Fence, Outcome, Submitted
from interlock.machine.errors import IntentFailed
from interlock.realm import Realm

__all__ = ["Context", "Fence", "IntentFailed", "Outcome", "Realm", "Submitted"]
