"""The secret lifecycle: a key of the server, or a secret of an administrator or client, as the log records it.

It is declared like the session lifecycle in :mod:`interlock.spec.session`. No record contains a secret, or anything that
helps to guess one.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from statemachine import Event, State, StateMachine


class SecretGuards(Protocol):
    """A secret's transitions have no guards."""


class SecretLifecycle(StateMachine):
    """A secret, from its file's appearance until the file is gone."""

    creation: ClassVar[tuple[str, str]] = ("add", "The server finds the secret's file.")

    present = State("The secret is in use, as long as its file can be read.", initial=True)
    removed = State("The secret's file is gone, and the secret is refused; nothing follows.", final=True)

    remove = Event(
        present.to(removed), name="The server finds that the secret's file is gone, or holds another secret."
    )
