"""The client for programs: sessions that stay fresh, connect, reconnect and resume, and say when and why they end.

:mod:`.core` and :mod:`.dialogue` hold the rules, as pure objects; the rest moves bytes.
"""

from interlock.client.connection import Connection, Event, Progress, Run
from interlock.client.errors import ConnectionStopped, NetworkFailed, Refused, ServerFailed, SessionOver, Unavailable
from interlock.client.sessions import Account, AnonymousSession, Client, LoggedInSession
from interlock.client.words import Connected, Disconnected, End, Problem, Transition

__all__ = [
    "Account",
    "AnonymousSession",
    "Client",
    "Connected",
    "Connection",
    "ConnectionStopped",
    "Disconnected",
    "End",
    "Event",
    "LoggedInSession",
    "NetworkFailed",
    "Problem",
    "Progress",
    "Refused",
    "Run",
    "ServerFailed",
    "SessionOver",
    "Transition",
    "Unavailable",
]
