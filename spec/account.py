"""The account lifecycle: who may log in, from registration to deletion.

It is declared like the session lifecycle in :mod:`interlock.spec.session`, and the same files are generated from it. Records
contain no email address or password hash, only keyed commitments to them.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from statemachine import Event, State, StateMachine


class AccountGuards(Protocol):
    """The conditions of transitions, over an account and a command. Each is pure and returns true or false."""

    def current_password(self) -> bool:
        """The command names the password that the account has now, by its commitment."""
        ...

    def has_password(self) -> bool:
        """The account has a password; its owner does not log in at a provider instead."""
        ...

    def reset_code(self) -> bool:
        """The command names the code that was issued last, which is not used up and whose time is not over."""
        ...


class AccountLifecycle(StateMachine):
    """An account, from its registration to its deletion."""

    creation: ClassVar[tuple[str, str]] = (
        "register",
        "A person registers with a password or with an identity at a provider.",
    )

    active = State("The account's owner may log in.", initial=True)
    disabled = State("An administrator has disabled the account: nobody logs in, and no session of it serves.")
    deleted = State("The account has ended, and its personal data is erased; nothing follows.", final=True)

    change_password = Event(
        active.to(active, internal=True, cond="current_password"),
        name="The account gets another password; sessions of the old one end, but for the one that asked.",
    )
    rehash = Event(
        active.to(active, internal=True, cond="current_password"),
        name="The same password is hashed again, with stronger parameters.",
    )
    issue_reset_code = Event(
        active.to(active, internal=True, cond="has_password"),
        name="An administrator issues a code, with which the owner can set another password once.",
    )
    reset_password = Event(
        active.to(active, internal=True, cond="reset_code"),
        name="The owner sets another password with that code; all sessions end.",
    )
    set_groups = Event(
        active.to(active, internal=True) | disabled.to(disabled, internal=True),
        name="The groups that the account belongs to are replaced.",
    )
    disable = Event(
        active.to(disabled),
        name="An administrator disables the account, and its sessions end.",
    )
    enable = Event(
        disabled.to(active),
        name="An administrator enables the account again; its owner has to log in.",
    )
    delete = Event(
        active.to(deleted) | disabled.to(deleted),
        name="The account ends with its sessions, and its personal data is erased.",
    )
