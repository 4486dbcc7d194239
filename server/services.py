"""What the endpoints work with. :mod:`server.app` makes one of these; nothing else wires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from server.clock import Clock
from server.guard.accounts import Accounts
from server.guard.keys import Keys
from server.guard.pseudonyms import Pseudonyms
from server.guard.tickets import Tickets
from server.guard.tokens import Tokens
from server.measures import Unmeasured
from server.runtime.connections import Connections
from server.runtime.sessions import Sessions
from server.settings import Settings
from server.trace import Untraced

if TYPE_CHECKING:
    from server.spans import Spans


class Services(msgspec.Struct):
    """Everything an endpoint may call. ``draining``: the server is stopping and takes no new work.

    ``spans`` is there only if somebody asked for OpenTelemetry, whose library is not imported otherwise.
    """

    settings: Settings
    clock: Clock
    sessions: Sessions
    connections: Connections
    accounts: Accounts
    tickets: Tickets
    tokens: Tokens
    keys: Keys
    pseudonyms: Pseudonyms
    trace: Untraced
    metrics: Unmeasured
    spans: Spans | None = None
    draining: bool = False
