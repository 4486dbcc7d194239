"""What the endpoints work with. :mod:`server.app` makes one of these; nothing else wires."""

from __future__ import annotations

import msgspec

from server.clock import Clock
from server.guard.accounts import Accounts
from server.guard.admins import Admins
from server.guard.keys import Keys
from server.guard.tickets import Tickets
from server.guard.tokens import Tokens
from server.runtime.administration import Administration
from server.runtime.connections import Connections
from server.runtime.sessions import Sessions
from server.runtime.tail import Tail
from server.settings import Settings
from server.trace import Untraced


class Services(msgspec.Struct):
    """Everything an endpoint may call. ``draining``: the server is stopping and takes no new work."""

    settings: Settings
    clock: Clock
    sessions: Sessions
    connections: Connections
    accounts: Accounts
    tickets: Tickets
    tokens: Tokens
    keys: Keys
    trace: Untraced
    admins: Admins
    administration: Administration
    tail: Tail
    draining: bool = False
