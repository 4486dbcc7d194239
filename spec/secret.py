"""The secret lifecycle: a key of the server, or a secret of an administrator or a registered program, as the log knows it.

It is declared like the session lifecycle in :mod:`interlock.spec.session`. No record holds a secret, or anything that helps
to guess one.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from statemachine import Event, State, StateMachine


class SecretGuards(Protocol):
    """A secret's transitions ask nothing."""


class SecretLifecycle(StateMachine):
    """A secret, from the time when the server finds its file until the file is gone."""

    creation: ClassVar[tuple[str, str]] = ("add", "The server finds the secret's file, and the secret counts.")

    present = State("The secret counts: what it opens or signs is accepted while its file can be used.", initial=True)
    removed = State("The secret's file is gone, and it opens nothing any more; nothing follows.", final=True)

    remove = Event(
        present.to(removed), name="The server finds that the secret's file is gone, or holds another secret."
    )
