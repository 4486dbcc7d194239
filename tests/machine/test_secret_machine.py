"""The secret's lifecycle on its own: what its records hold, and what is told of it."""

from __future__ import annotations

import pytest

from interlock.machine.errors import AdminCredentialInvalid, ClientAuthenticationFailed, LedgerFault, TransitionRefused
from interlock.machine.ledger import GENESIS, Record, chain
from interlock.machine.machine import Command, Data
from interlock.machine.secret.commands import Add, Remove, added
from interlock.machine.secret.machine import SECRET_MACHINE, Secret, why_refused
from interlock.machine.story import describe, snapshot

ADA = added("admin", "ada", b"a hash")


def lived(*asked: Data) -> tuple[Secret, list[Record]]:
    """A secret of which ``asked`` was recorded, and the records."""
    secret, records, digest = SECRET_MACHINE.absent("sec_1"), [], GENESIS
    for number, data in enumerate(asked, 1):
        step = SECRET_MACHINE.decide(secret, Command(f"cmd-{number}", "server", data), number)
        secret = SECRET_MACHINE.evolve(secret, step)
        row = chain(digest, number, step)
        digest = row.digest
        records.append(Record(number, step, digest))
    return secret, records


def test_it_is_added_and_removed() -> None:
    secret, records = lived(ADA, Remove())
    assert secret == Secret("sec_1", "removed", 2, 1, 2, ADA)
    assert SECRET_MACHINE.replay("sec_1", [record.transition for record in records]) == secret
    assert all(SECRET_MACHINE.is_essential(record.transition) for record in records)


@pytest.mark.parametrize("data", [ADA, Remove()], ids=["add", "remove"])
def test_nothing_follows_its_removal(data: Data) -> None:
    secret, _ = lived(ADA, Remove())
    with pytest.raises(TransitionRefused):
        SECRET_MACHINE.decide(secret, Command("cmd", "server", data), 3)


def test_it_is_told_in_words() -> None:
    secret, records = lived(ADA)
    steps, _ = describe(SECRET_MACHINE, "sec_1", records)
    assert [step.particulars for step in steps] == [f"purpose admin, name ada, fingerprint {ADA.fingerprint}"]
    shop = added("subscriber", "shop", b"a hash", ("executions:notes", "session-ends"))
    steps, _ = describe(SECRET_MACHINE, "sec_1", lived(shop)[1])
    assert steps[0].particulars.endswith(f"{shop.fingerprint}, scopes executions:notes session-ends")
    stands = snapshot(SECRET_MACHINE, secret, 5)
    assert stands.stands == {"secret": ADA}
    assert [(each.event, each.target) for each in stands.events] == [("remove", "removed")]


def test_a_fingerprint_tells_secrets_apart_and_holds_nothing_of_them() -> None:
    assert added("admin", "ada", b"another hash") != ADA
    assert Add("admin", "ada", ADA.fingerprint) == ADA
    assert len(ADA.fingerprint) == 22


@pytest.mark.parametrize(
    "text",
    [
        '{"purpose":"master","name":"ada","fingerprint":"AAAAAAAAAAAAAAAAAAAAAA"}',
        '{"purpose":"admin","name":"ada","fingerprint":"short"}',
        '{"purpose":"admin","name":"ada","fingerprint":"AAAAAAAAAAAAAAAAAAAAAA","secret":"x"}',
    ],
)
def test_what_is_no_such_record_is_found(text: str) -> None:
    with pytest.raises(LedgerFault, match="data of add is malformed"):
        SECRET_MACHINE.data_of(1, "add", text)


def test_a_name_that_is_not_utf_8_can_be_recorded() -> None:
    assert added("refresh", "refresh-\udcff", bytes(32)).name == "refresh-\\udcff"


def test_whose_secret_is_removed_is_refused_as_with_a_wrong_one() -> None:
    assert isinstance(why_refused("admin"), AdminCredentialInvalid)
    assert isinstance(why_refused("client"), ClientAuthenticationFailed)
