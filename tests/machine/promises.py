"""The promises about one session, each as a check of one step against a second opinion.

The second opinion reads the log the naive way, with a set and a few lists, and shares no code with ``machine``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from interlock.machine.errors import TransitionRefused
from interlock.machine.machine import Command, Transition
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Policy,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.refresh_tokens import honoured
from interlock.machine.session.session import Session, evolve, opens_until_ms, touch_due
from interlock.spec.lifecycles import SESSION


class Opinion:
    """The state of one session according to its log.

    ``tokens``: each refresh token of its epoch, and when it was issued; ``presented``: which were exchanged, when, and
    which one was the newest then.
    """

    def __init__(self, log: Sequence[Transition]) -> None:
        self.policy: Policy | None = None
        self.subject: str | None = None
        self.open: set[str] = set()
        self.ended = False
        self.last_ms = self.idle_from_ms = self.absolute_from_ms = 0
        self.epoch = self.newest = 0
        self.tokens: dict[int, int] = {}
        self.presented: list[tuple[int, int, int]] = []
        for transition in log:
            self.read(transition.data, transition.at_ms)

    def read(self, data: Data, at_ms: int) -> None:
        self.last_ms = at_ms
        match data:
            case Create():
                self.policy = data.policy
                self.tokens = {0: at_ms}
            case Authenticate() | Reauthenticate():
                self.subject = data.subject
                self.epoch += 1
                self.tokens, self.presented = {self.newest: at_ms}, []
            case Connect():
                self.open.add(data.connection_id)
            case Disconnect():
                self.open.remove(data.connection_id)
            case Refresh():
                self.presented.append((data.rotation, at_ms, self.newest))
                self.newest += 1
                self.tokens[self.newest] = at_ms
            case Touch():
                self.idle_from_ms = at_ms
            case Revoke() | Expire():
                self.ended = True
                self.open.clear()
        if isinstance(data, Create | Authenticate | Reauthenticate):
            self.idle_from_ms = self.absolute_from_ms = at_ms

    @property
    def deadline_ms(self) -> int:
        if self.policy is None:
            return 0
        return min(
            self.idle_from_ms + self.policy.idle_timeout_ms, self.absolute_from_ms + self.policy.absolute_timeout_ms
        )

    @property
    def state(self) -> str | None:
        if self.policy is None:
            return None
        if self.ended:
            return "expired"
        return "connected" if self.open else "created" if self.subject is None else "authenticated"

    def overdue(self, now_ms: int) -> bool:
        return max(now_ms, self.last_ms) >= self.deadline_ms

    def expects(self, data: Data, now_ms: int) -> str | None:
        """Return where ``data`` must lead, or None if it must be refused."""
        if isinstance(data, Create):
            return "created" if self.policy is None else None
        if self.policy is None or self.ended:
            return None
        overdue = self.overdue(now_ms)
        if isinstance(data, Revoke | Expire):
            return "expired" if overdue or isinstance(data, Revoke) else None
        if isinstance(data, Disconnect):
            last = "authenticated" if len(self.open) == 1 else "connected"
            return last if data.connection_id in self.open else None
        match data:
            case Authenticate():
                target = "authenticated" if self.subject is None else None
            case Reauthenticate():
                target = self.state if data.subject == self.subject else None
            case Connect():
                target = "connected" if self.subject and len(self.open) < self.policy.connection_limit else None
            case Refresh():
                target = self.state if data.epoch == self.epoch and self.held(data.rotation, now_ms) else None
            case Touch():
                target = self.state
        return None if overdue else target

    def held(self, rotation: int, now_ms: int) -> bool:
        """Return whether one cookie jar may hold the token of ``rotation``, or await it."""
        if rotation not in self.tokens or self.policy is None:
            return False
        grace_ms = self.policy.refresh_grace_ms
        used_ms: list[int] = []
        for other, at_ms, newest in self.presented:
            if other == rotation:
                used_ms.append(at_ms)
            elif rotation <= newest:
                came_before = used_ms and used_ms[0] <= self.tokens[other]
                may_come = at_ms - self.tokens[rotation] < grace_ms and not came_before
                if not may_come and now_ms - self.tokens[other] >= grace_ms:
                    return False
        return True

    def opens(self, rotation: int, now_ms: int) -> bool:
        """Return whether it opens something without an exchange: it was not exchanged, or less than a grace ago."""
        used_ms = [at_ms for other, at_ms, _ in self.presented if other == rotation]
        recent = self.policy is not None and used_ms != [] and now_ms - used_ms[0] < self.policy.refresh_grace_ms
        return self.held(rotation, now_ms) and (not used_ms or recent)


class Step(msgspec.Struct, frozen=True):
    """One command to one session. ``transition`` is None if it was refused, and ``guard`` is then the guard named."""

    before: Session
    image: bytes
    log: tuple[Transition, ...]
    opinion: Opinion
    command: Command
    now_ms: int
    transition: Transition | None
    guard: str | None
    after: Session

    @property
    def log_after(self) -> tuple[Transition, ...]:
        return (*self.log, self.transition) if self.transition else self.log

    @property
    def opinion_after(self) -> Opinion:
        return Opinion(self.log_after) if self.transition else self.opinion


def take(before: Session, log: tuple[Transition, ...], opinion: Opinion, command: Command, now_ms: int) -> Step:
    """Apply ``command`` to ``before``, the state according to ``log``."""
    image = msgspec.json.encode(before)
    try:
        transition = SESSION_MACHINE.decide(before, command, now_ms)
    except TransitionRefused as refused:
        return Step(before, image, log, opinion, command, now_ms, None, refused.guard, before)
    return Step(before, image, log, opinion, command, now_ms, transition, None, evolve(before, transition))


def declared_only(step: Step) -> None:
    expected = step.opinion.expects(step.command.data, step.now_ms)
    if step.transition is None:
        assert expected is None
        return
    done = step.transition
    assert done.target == expected == step.after.state
    assert done.source == (step.log[-1].target if step.log else None)
    assert (done.event, done.source, done.target) in {
        (row.event, row.source, row.target) for row in SESSION.transitions
    }
    assert (done.event == "create") == (not step.log)
    assert (done.data, done.actor, done.command_id) == (step.command.data, step.command.actor, step.command.command_id)


def expired_absorbs(step: Step) -> None:
    if any(transition.target == "expired" for transition in step.log):
        assert step.transition is None
        assert step.before.ended


def authentication_first(step: Step) -> None:
    if step.transition and step.transition.event == "connect":
        assert any(transition.event == "authenticate" for transition in step.log)
        assert step.after.subject is not None


def owner_coherence(step: Step) -> None:
    held = [connection.connection_id for connection in step.after.connections]
    assert (step.after.state == "connected") == bool(held)
    assert len(held) == len(set(held))
    assert set(held) == step.opinion_after.open


def versions_gapless(step: Step) -> None:
    assert [transition.version for transition in step.log_after] == list(range(1, step.after.version + 1))


def replay_equals_state(step: Step) -> None:
    # A refusal leaves both as they were compared before.
    if step.transition:
        assert SESSION_MACHINE.replay(step.after.session_id, step.log_after) == step.after


def no_early_expiry(step: Step) -> None:
    assert step.before.deadline_ms == step.opinion.deadline_ms
    if step.transition and step.transition.event == "expire":
        assert step.transition.at_ms >= step.opinion.deadline_ms
    if step.log and step.opinion.overdue(step.now_ms):
        assert step.after.deadline_ms == step.before.deadline_ms
    if step.log:
        assert step.after.policy == step.before.policy
        idle_ms = step.now_ms - step.opinion.idle_from_ms
        assert touch_due(step.before, step.now_ms) == (idle_ms >= step.before.policy.idle_timeout_ms // 10)


def rotation(step: Step) -> None:
    data = step.command.data
    opinion = step.opinion_after
    # Within a session time never runs backwards.
    now_ms = max(step.now_ms, opinion.last_ms)
    if step.transition and isinstance(data, Refresh):
        assert data.epoch == step.opinion.epoch
        assert step.opinion.held(data.rotation, now_ms)
        assert step.after.rotation == step.before.rotation + 1
    assert (step.after.epoch, step.after.rotation) == (opinion.epoch, opinion.newest)
    never_issued = step.after.rotation + 1
    for rotation in (*opinion.tokens, never_issued):
        held = honoured(step.after.refresh_tokens, rotation, now_ms) is not None
        assert held == opinion.held(rotation, now_ms), (rotation, step.after.refresh_tokens)
        if not opinion.overdue(now_ms):
            opens = now_ms < opens_until_ms(step.after, rotation, now_ms)
            assert opens == opinion.opens(rotation, now_ms), (rotation, step.after.refresh_tokens)


def refusal_changes_nothing(step: Step) -> None:
    assert msgspec.json.encode(step.before) == step.image
    again = take(step.before, step.log, step.opinion, step.command, step.now_ms)
    assert (again.transition, again.guard) == (step.transition, step.guard)
    if step.transition is None:
        assert step.after == step.before


PROMISES: Final[dict[str, Callable[[Step], None]]] = {
    check.__name__: check
    for check in (
        declared_only,
        expired_absorbs,
        authentication_first,
        owner_coherence,
        versions_gapless,
        replay_equals_state,
        no_early_expiry,
        rotation,
        refusal_changes_nothing,
    )
}
"""Property name → the check of one step."""


def check_all(step: Step) -> None:
    """Check ``step`` against every promise.

    Raises:
        AssertionError: one is broken: its name, and what was done to which session.
    """
    for name, check in PROMISES.items():
        try:
            check(step)
        except AssertionError as broken:
            raise AssertionError(f"{name} is broken. {_told(step)}") from broken


def _told(step: Step) -> str:
    """Describe the step, after all that led to it."""
    lines = [
        f"{number:3}. {each.event}: {each.source or 'no session'} → {each.target}, at {each.at_ms} ms: {each.data}"
        for number, each in enumerate(step.log, 1)
    ]
    became = f"became {step.transition.target}" if step.transition else f"was refused (guard {step.guard})"
    command = step.command.data
    lines.append(
        f"  →  {command.event} at {step.now_ms} ms, in state {step.before.state or 'no session'}, {became}: {command}"
    )
    return "\n".join(["The session so far, and the step:", *lines])
