"""The session lifecycle: the one declaration from which everything else about its transitions is derived.

Edit this file, run ``make generate`` and ``make test``, and read what fails. The server's compiled table, the SQL triggers
that refuse illegal rows, the JSON for other languages, the diagrams and the tables in the docs all come from the class below.
Nothing else in the repository lists a transition.

The class holds states, events and guards **by name**. It holds no actions, validators, delays or nested states: the reader in
:mod:`interlock.spec.transitions` refuses what it can't export.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from statemachine import Event, State, StateMachine


class SessionGuards(Protocol):
    """The conditions of transitions, over a session, a command and the time. Each is pure and returns true or false."""

    def alive(self) -> bool:
        """Now is before the idle deadline and before the absolute deadline."""
        ...

    def same_subject(self) -> bool:
        """The command names the subject the session already belongs to."""
        ...

    def below_connection_limit(self) -> bool:
        """The session holds fewer live connections than its limit."""
        ...

    def known_connection(self) -> bool:
        """The connection the command names is one the session holds."""
        ...

    def last_connection(self) -> bool:
        """The session holds exactly one live connection."""
        ...

    def rotation_honoured(self) -> bool:
        """The presented refresh token is of the current epoch, and the one it was issued to may still hold it."""
        ...


class SessionLifecycle(StateMachine):
    """A session, from the first anonymous page load through login and live WebSockets to its end."""

    creation: ClassVar[tuple[str, str]] = ("create", "A client arrives and an anonymous session begins.")

    created = State("The session is anonymous: it exists, and nobody has logged in.", initial=True)
    authenticated = State("A subject has proved who they are; no WebSocket is open.")
    connected = State("An authenticated session holds at least one live WebSocket.")
    expired = State("The session has ended for a recorded reason; nothing follows.", final=True)

    authenticate = Event(
        created.to(authenticated, cond="alive"),
        name="A subject logs in, and the anonymous session becomes theirs.",
    )
    reauthenticate = Event(
        authenticated.to(authenticated, internal=True, cond=["alive", "same_subject"])
        | connected.to(connected, internal=True, cond=["alive", "same_subject"]),
        name="The same subject proves again who they are; older tokens stop working.",
    )
    connect = Event(
        authenticated.to(connected, cond=["alive", "below_connection_limit"])
        | connected.to(connected, internal=True, cond=["alive", "below_connection_limit"]),
        name="A WebSocket opens.",
    )
    disconnect = Event(
        connected.to(connected, internal=True, cond="known_connection", unless="last_connection")
        | connected.to(authenticated, cond=["known_connection", "last_connection"]),
        name="A WebSocket is gone: closed, dropped, or left behind by a dead process.",
    )
    refresh = Event(
        created.to(created, internal=True, cond=["alive", "rotation_honoured"])
        | authenticated.to(authenticated, internal=True, cond=["alive", "rotation_honoured"])
        | connected.to(connected, internal=True, cond=["alive", "rotation_honoured"]),
        name="A refresh token is exchanged for a new one.",
    )
    touch = Event(
        created.to(created, internal=True, cond="alive")
        | authenticated.to(authenticated, internal=True, cond="alive")
        | connected.to(connected, internal=True, cond="alive"),
        name="The client did something, and the idle deadline moves.",
    )
    revoke = Event(
        created.to(expired) | authenticated.to(expired) | connected.to(expired),
        name="Somebody with the right to do so ends the session.",
    )
    expire = Event(
        created.to(expired, unless="alive")
        | authenticated.to(expired, unless="alive")
        | connected.to(expired, unless="alive"),
        name="A deadline has passed, and the end is written down.",
    )
