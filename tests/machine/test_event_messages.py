"""Event messages and scopes: what a back end learns of a record, and of which records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from interlock.machine.account.commands import Register
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.events.messages import EventMessage, message_of, needed_for
from interlock.machine.events.scopes import Scopes
from interlock.machine.execution.commands import Fail, Start
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import GENESIS, Record, chain
from interlock.machine.machine import Command, Machine
from interlock.machine.secret.commands import added
from interlock.machine.secret.machine import SECRET_MACHINE
from interlock.machine.session.commands import Authenticate, Create, Policy, Revoke, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from tests.machine.worlds import accept

_AT_MS = 1_769_160_600_123


def told(machine: Machine[Any], instance_id: str, *asked: Any) -> list[tuple[Record, Any]]:
    """Return the records of one instance, each with the instance after the last of them."""
    instance, records = machine.absent(instance_id), []
    for number, data in enumerate(asked, 1):
        step = machine.decide(instance, Command(f"c{number}", "admin:ada", data), _AT_MS)
        instance = machine.evolve(instance, step)
        records.append(Record(number, step, chain(GENESIS, number, step).digest))
    return [(record, instance) for record in records]


SESSION = told(
    SESSION_MACHINE,
    "s",
    Create(Policy(1000, 5000, 3, 10)),
    Authenticate("acc_1", "password"),
    Touch(),
    Revoke("logout"),
)
ANONYMOUS = told(SESSION_MACHINE, "t", Create(Policy(1000, 5000, 3, 10)), Revoke("logout"))
EXECUTION = told(EXECUTION_MACHINE, "exe_1", accept("once"), Start("n1"), Fail("timeout", "n1", 1))
ACCOUNT = told(ACCOUNT_MACHINE, "acc_1", Register("A" * 43, "B" * 43))
SECRET = told(SECRET_MACHINE, "sec_1", added("admin", "ada", b"a hash"))


def messages(records: list[tuple[Record, Any]]) -> list[EventMessage]:
    return [message_of(record, after if needed_for(record.transition) else None) for record, after in records]


def test_the_message_of_a_sessions_end_names_session_account_and_reason() -> None:
    record, _ = SESSION[-1]
    assert msgspec.to_builtins(messages(SESSION)[-1]) == {
        "id": f"evt_4_{record.digest.hex()[:16]}",
        "type": "session.revoke",
        "timestamp": "2026-01-23T09:30:00.123Z",
        "data": {
            "position": 4,
            "kind": "session",
            "instance_id": "s",
            "version": 4,
            "event": "revoke",
            "state": "expired",
            "session_id": "s",
            "subject": "acc_1",
            "reason": "logout",
        },
    }
    assert messages(ANONYMOUS)[-1].data.subject is None


def test_every_message_of_an_execution_says_whose_it_is() -> None:
    for message in messages(EXECUTION):
        found = message.data
        assert (found.session_id, found.subject, found.realm) == ("s", "acc_1", "notes")
        assert found.intent == "notes.create"
    assert [(each.type, each.data.state) for each in messages(EXECUTION)] == [
        ("execution.accept", "accepted"),
        ("execution.start", "running"),
        ("execution.fail", "failed"),
    ]
    assert messages(EXECUTION)[-1].data.reason == "timeout"


def test_a_message_contains_nothing_else_of_its_record() -> None:
    """No actor, no commitment, no fingerprint, no method: who may see those has a credential of its own for it."""
    for records in (SESSION, EXECUTION, ACCOUNT, SECRET):
        for message in messages(records):
            text = msgspec.json.encode(message).decode()
            for hidden in ("admin:ada", "password", "A" * 43, "B" * 43, "fingerprint", "policy", "n1"):
                assert hidden not in text
    assert messages(ACCOUNT)[0].data.subject == "acc_1"


def test_a_message_depends_on_no_later_record() -> None:
    """The same message is the same bytes whenever it is made, so that a repeat is a repeat."""
    for records in (SESSION, EXECUTION):
        for number, (record, after) in enumerate(records):
            machine = needed_for(record.transition)
            if machine is not None:
                steps = [each.transition for each, _ in records[: number + 1]]
                at_once = machine.replay(record.transition.instance_id, steps)
                assert message_of(record, at_once) == message_of(record, after)


@pytest.mark.parametrize(
    ("scopes", "covered"),
    [
        ({"session-ends"}, ["session.revoke", "session.revoke"]),
        ({"executions:notes"}, ["execution.accept", "execution.start", "execution.fail"]),
        ({"executions:note"}, []),
        ({"executions:notes-2"}, []),
        (
            {"session-ends", "executions:notes"},
            ["session.revoke", "session.revoke", "execution.accept", "execution.start", "execution.fail"],
        ),
        (set(), []),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else None,
)
def test_a_scope_covers_its_records_and_no_others(scopes: set[str], covered: list[str]) -> None:
    assert [each.type for each in read(scopes)] == covered


def test_the_scope_all_covers_every_record() -> None:
    everything = sum(map(len, (SESSION, ANONYMOUS, EXECUTION, ACCOUNT, SECRET)))
    assert len(read({"all"})) == everything


def read(texts: set[str]) -> list[EventMessage]:
    """Return the messages of all records that ``texts`` cover."""
    scopes = Scopes(texts)
    every = [*SESSION, *ANONYMOUS, *EXECUTION, *ACCOUNT, *SECRET]
    made = messages([each for each in every if scopes.may_cover(each[0].transition)])
    return [each for each in made if scopes.cover_realm(each.data.realm)]
