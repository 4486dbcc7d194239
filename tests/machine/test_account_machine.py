"""The account's lifecycle: no order of commands leads to an invalid state, and every record is readable."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from interlock.machine.account.account import Account
from interlock.machine.account.commands import (
    ChangePassword,
    Data,
    Delete,
    Disable,
    Enable,
    IssueResetCode,
    Register,
    Rehash,
    ResetPassword,
    SetGroups,
)
from interlock.machine.account.commitments import commit
from interlock.machine.account.machine import ACCOUNT_MACHINE, ensure_active, ensure_serves
from interlock.machine.errors import AccountDisabled, CredentialInvalid, SessionEnded, TransitionRefused
from interlock.machine.explain import refusal
from interlock.machine.ledger import GENESIS, chain, parse
from interlock.machine.machine import Command
from interlock.machine.machines import MACHINES
from interlock.machine.story import describe, snapshot
from interlock.machine.verifier import Verifier

KEY = bytes(32)
HASHES = [commit(KEY, "password_hash", each) for each in ("one", "two", "three")]
EMAIL = commit(KEY, "email", "ada@example.org")
CODES = [commit(KEY, "reset_code", each) for each in ("one", "two")]
IDENTITY = commit(KEY, "identity", "https://id.example", "ada")
ADDRESSES = st.sampled_from([None, "192.0.2.7"])


class AccountMachine(RuleBasedStateMachine):
    """Any commands in any order: a refused one changes nothing, and the log of the others is valid."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account("acc_1")
        self.verifier = Verifier(MACHINES, lambda _kind, _id, _before: False)
        self.digest, self.position, self.now_ms = GENESIS, 0, 0
        self.numbers = itertools.count()
        self.taken_away = 0
        self.refusals: list[str] = []

    @initialize(identity=st.booleans())
    def register(self, identity: bool) -> None:  # noqa: FBT001  # drawn by name
        by = Register(identity=IDENTITY, groups=("ops",)) if identity else Register(EMAIL, HASHES[0])
        assert self.ask(by)

    def ask(self, data: Data) -> bool:
        self.now_ms += 1
        try:
            step = ACCOUNT_MACHINE.decide(
                self.account, Command(f"cmd-{next(self.numbers)}", "admin:a", data), self.now_ms
            )
        except TransitionRefused as refused:
            self.refusals.append(refusal(ACCOUNT_MACHINE, refused, self.account, data))
            return False
        self.account = ACCOUNT_MACHINE.evolve(self.account, step)
        row = chain(self.digest, self.position + 1, step)
        self.position, self.digest = row.position, row.digest
        assert self.verifier.feed(row)[1] == self.account
        self.taken_away += data.event in {"change_password", "reset_password", "disable", "delete"}
        return True

    @rule(current=st.sampled_from(HASHES), new=st.sampled_from(HASHES))
    def change_password(self, current: str, new: str) -> None:
        allowed = self.account.state == "active" and current == self.account.password
        assert self.ask(ChangePassword(current, new)) is allowed
        assert not allowed or self.account.password == new

    @rule(current=st.sampled_from(HASHES), new=st.sampled_from(HASHES))
    def rehash(self, current: str, new: str) -> None:
        epoch, since_ms = self.account.epoch, self.account.password_changed_at_ms
        allowed = self.account.state == "active" and current == self.account.password
        assert self.ask(Rehash(current, new)) is allowed
        assert (self.account.epoch, self.account.password_changed_at_ms) == (epoch, since_ms), "the same password"
        assert not allowed or self.account.password == new

    @rule(code=st.sampled_from(CODES), lifetime_ms=st.integers(0, 5), address=ADDRESSES)
    def issue_reset_code(self, code: str, lifetime_ms: int, address: str | None) -> None:
        allowed = self.account.state == "active" and self.account.password is not None
        assert self.ask(IssueResetCode(code, self.now_ms + lifetime_ms, address)) is allowed

    @rule(code=st.sampled_from(CODES), new=st.sampled_from(HASHES))
    def reset_password(self, code: str, new: str) -> None:
        known = self.account.reset_code == code and self.now_ms + 1 < self.account.reset_until_ms
        allowed = self.account.state == "active" and known
        assert self.ask(ResetPassword(code, new)) is allowed
        assert not allowed or (self.account.password, self.account.reset_code) == (new, None), "used up"

    @rule(groups=st.sampled_from([(), ("ops",), ("ops", "staff")]), address=ADDRESSES)
    def set_groups(self, groups: tuple[str, ...], address: str | None) -> None:
        assert self.ask(SetGroups(groups, address)) is (self.account.state != "deleted")

    @rule(address=ADDRESSES)
    def disable(self, address: str | None) -> None:
        active = self.account.state == "active"
        assert self.ask(Disable(address)) is active

    @rule(address=ADDRESSES)
    def enable(self, address: str | None) -> None:
        disabled = self.account.state == "disabled"
        assert self.ask(Enable(address)) is disabled

    @precondition(lambda self: self.account.version > 5)
    @rule(address=ADDRESSES)
    def delete(self, address: str | None) -> None:
        lives = self.account.state != "deleted"
        told = {each.event for each in snapshot(ACCOUNT_MACHINE, self.account, self.now_ms).events if each.target}
        assert self.ask(Delete(address)) is lives is ("delete" in told)

    @rule()
    def register_again(self) -> None:
        assert not self.ask(Register(EMAIL, HASHES[0]))

    @invariant()
    def it_is_what_its_state_says(self) -> None:
        account = self.account
        assert account.epoch == self.taken_away
        assert (account.disabled_at_ms is not None) == (account.state == "disabled") or account.state == "deleted"
        if account.state == "deleted":
            assert (account.email, account.password, account.identity, account.groups) == (None, None, None, ())

    @invariant()
    def what_is_refused_is_explained(self) -> None:
        assert all(each.startswith("refused: ") for each in self.refusals)

    @invariant()
    def a_session_of_an_older_epoch_never_serves(self) -> None:
        for epoch in range(self.account.epoch):
            with pytest.raises(SessionEnded):
                ensure_serves(self.account, epoch)
        if self.account.state == "active":
            ensure_serves(self.account, self.account.epoch)
        else:
            with pytest.raises(SessionEnded):
                ensure_serves(self.account, self.account.epoch)


TestAccountMachine = AccountMachine.TestCase


def test_a_whole_account_life_is_told_in_words() -> None:
    told: list[Data] = [
        Register(EMAIL, HASHES[0], groups=("staff",)),
        Rehash(HASHES[0], HASHES[1]),
        ChangePassword(HASHES[1], HASHES[2]),
        SetGroups((), "192.0.2.7"),
        SetGroups(("ops",)),
        Disable("192.0.2.7"),
        Enable(),
        IssueResetCode(CODES[0], 60_000, "192.0.2.7"),
        ResetPassword(CODES[0], HASHES[0]),
        Delete("192.0.2.7"),
    ]
    account, digest, records = Account("acc_1"), GENESIS, []
    for number, data in enumerate(told, 1):
        step = ACCOUNT_MACHINE.decide(account, Command(f"cmd-{number}", "admin:ada", data), number)
        account = ACCOUNT_MACHINE.evolve(account, step)
        row = chain(digest, number, step)
        digest = row.digest
        records.append(parse(row, MACHINES))
        assert snapshot(ACCOUNT_MACHINE, account, number).stands["epoch"] == account.epoch
    steps, last = describe(ACCOUNT_MACHINE, "acc_1", records)
    assert last == account
    said = [step.particulars for step in steps]
    assert said[0] == "with an email address and a password, in staff"
    assert said[2:] == [
        "epoch 1",
        "in no group; asked from 192.0.2.7",
        "in ops",
        "epoch 2; asked from 192.0.2.7",
        "",
        "valid until 1970-01-01T00:01:00.000Z; asked from 192.0.2.7",
        "epoch 3",
        "epoch 4; asked from 192.0.2.7",
    ]


@pytest.mark.parametrize(
    ("issued", "says"),
    [
        (None, "no reset code of the account is unused"),
        (CODES[1], "the account has another reset code, or one that was valid until 1970-01-01T00:00:00.009Z"),
    ],
)
def test_why_a_reset_code_is_refused(issued: str | None, says: str) -> None:
    account = Account("acc_1", state="active", password=HASHES[0], reset_code=issued, reset_until_ms=9)
    reset = ResetPassword(CODES[0], HASHES[1])
    with pytest.raises(TransitionRefused) as refused:
        ACCOUNT_MACHINE.decide(account, Command("cmd", "acc_1", reset), 5)
    assert says in refusal(ACCOUNT_MACHINE, refused.value, account, reset)


def test_which_accounts_an_authentication_admits() -> None:
    ensure_active(Account("acc_1", state="active"))
    with pytest.raises(AccountDisabled):
        ensure_active(Account("acc_1", state="disabled"))
    for nobody in (Account("acc_1"), Account("acc_1", state="deleted")):
        with pytest.raises(CredentialInvalid):
            ensure_active(nobody)


def test_a_commitment_depends_on_key_kind_and_values() -> None:
    others = [
        commit(bytes(31) + b"x", "identity", "a", "bc"),
        commit(KEY, "email", "a", "bc"),
        commit(KEY, "identity", "ab", "c"),
        commit(KEY, "identity", "a", "bc", ""),
    ]
    assert commit(KEY, "identity", "a", "bc") not in others
    assert len(set(others)) == len(others)
