"""Random sessions, with a clock that jumps forwards and sometimes back, in one log that is verified."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from interlock.machine.ledger import chain
from interlock.machine.ledger import parse as parse_row
from interlock.machine.machine import Command, Transition
from interlock.machine.machines import MACHINES
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
from interlock.machine.session.session import Session, overdue_reason
from interlock.machine.verifier import Verifier
from tests.machine.promises import Opinion, check_all, take

_TABS = st.sampled_from(["x", "y", "z"])
_SUBJECTS = st.sampled_from(["alice", "bob"])
_POLICIES = st.builds(
    Policy,
    idle_timeout_ms=st.integers(40, 100),
    absolute_timeout_ms=st.integers(40, 300),
    connection_limit=st.sampled_from([2, 1, 3, 0]),
    refresh_grace_ms=st.integers(0, 20),
)


class SessionMachine(RuleBasedStateMachine):
    """One session at a time; when it has ended, another may begin in the same log."""

    def __init__(self) -> None:
        super().__init__()
        self.verifier = Verifier(MACHINES, lambda _kind, _session_id, _before: False)
        self.now_ms = 1_000
        self.count = 0
        self.begin()

    @initialize(policy=_POLICIES, subject=st.none() | _SUBJECTS, tabs=st.lists(_TABS, max_size=2))
    def start(self, policy: Policy, subject: str | None, tabs: list[str]) -> None:
        self.put(Create(policy))
        if subject is not None:
            self.put(Authenticate(subject, "password"))
        for tab in tabs:
            self.put(Connect(tab, "node"))

    @precondition(lambda self: self.session.ended)
    @rule(policy=_POLICIES)
    def start_anew(self, policy: Policy) -> None:
        self.begin()
        self.put(Create(policy))

    @rule(ms=st.sampled_from([1, 5, 10, 20, 35, -7]))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: not self.session.ended)
    @rule(ms=st.integers(-1, 1))
    def wait_for_the_deadline(self, ms: int) -> None:
        self.now_ms = self.session.deadline_ms + ms

    @rule(policy=_POLICIES)
    def create(self, policy: Policy) -> None:
        self.put(Create(policy))

    @rule(subject=_SUBJECTS)
    def authenticate(self, subject: str) -> None:
        self.put(Authenticate(subject, "password"))

    @rule(subject=_SUBJECTS)
    def reauthenticate(self, subject: str) -> None:
        self.put(Reauthenticate(subject, "password"))

    @rule(tab=_TABS)
    def connect(self, tab: str) -> None:
        self.put(Connect(tab, "node"))

    @rule(tab=_TABS)
    def disconnect(self, tab: str) -> None:
        self.put(Disconnect(tab, 1000))

    @rule()
    def refresh(self) -> None:
        self.put(Refresh(self.session.epoch, self.session.rotation))

    @rule(epochs=st.integers(-1, 1), rotations=st.integers(-4, 1))
    def refresh_with_another(self, epochs: int, rotations: int) -> None:
        self.put(Refresh(self.session.epoch + epochs, self.session.rotation + rotations))

    @rule()
    def touch(self) -> None:
        self.put(Touch())

    @precondition(lambda self: len(self.log) > 6)  # otherwise most sessions would end at once
    @rule(
        reason=st.sampled_from(["logout", "revoked", "token_reuse", "password_changed", "account_disabled", "replaced"])
    )
    def revoke(self, reason: str) -> None:
        self.put(Revoke(reason))  # type: ignore[arg-type]  # hypothesis widens the literals

    @rule()
    def expire(self) -> None:
        reason = overdue_reason(self.session, self.now_ms)
        absolute_ms = Opinion(self.log).absolute_from_ms + self.session.policy.absolute_timeout_ms
        assert (reason == "absolute") == (self.now_ms >= absolute_ms)
        self.put(Expire(reason))

    @invariant()
    def the_verifier_holds_the_same(self) -> None:
        lives = self.session.state is not None and not self.session.ended
        assert self.verifier.live == ({("session", self.session.session_id): self.session} if lives else {})
        assert self.verifier.instance_count == self.count - (self.session.state is None)

    def begin(self) -> None:
        self.count += 1
        self.session: Session = SESSION_MACHINE.absent(f"s{self.count}")
        self.log: tuple[Transition, ...] = ()

    def put(self, data: Data) -> None:
        command = Command(f"c{self.verifier.position}", "test", data)
        step = take(self.session, self.log, Opinion(self.log), command, self.now_ms)
        check_all(step)
        if step.transition:
            row = chain(self.verifier.head, self.verifier.position + 1, step.transition)
            assert parse_row(row, MACHINES).transition == step.transition
            assert self.verifier.feed(row)[1] == step.after
            self.session, self.log = step.after, step.log_after


TestSession = SessionMachine.TestCase
