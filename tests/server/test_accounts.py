"""Passwords and accounts."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from pathlib import Path
from typing import Literal

import argon2
import pytest

from interlock.machine.errors import (
    AccountExists,
    CredentialInvalid,
    Overloaded,
    PasswordRefused,
    PasswordWrong,
)
from interlock.machine.session.commands import Authenticate
from interlock.server.guard.emails import fold_email
from interlock.server.guard.passwords.hash_queue import Requester
from interlock.server.guard.passwords.hashing import Passwords
from tests.support.asynchronous import asynchronous
from tests.support.logging_in import PLACE, accounts_in, cheap
from tests.support.running import eventually

PASSWORD = "correct horse battery staple"


ANYBODY = Requester("ada@example.org", PLACE)


def asks(email: str) -> Requester:
    return Requester(fold_email(email), PLACE)


@pytest.mark.asvs("11.4.2")
@asynchronous
async def test_hashes_are_argon2id_with_the_set_parameters_and_their_own_salt() -> None:
    passwords = Passwords(memory_kib=19_456, iterations=2, workers=1, max_waiting=1)
    first, second = await passwords.hash(PASSWORD, ANYBODY), await passwords.hash(PASSWORD, ANYBODY)
    parameters = argon2.extract_parameters(first)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        argon2.Type.ID,
        19_456,
        2,
        1,
    )
    assert first != second
    assert await passwords.verify(first, PASSWORD, ANYBODY)
    assert not await passwords.verify(first, PASSWORD + " ", ANYBODY)
    assert not await passwords.verify(None, PASSWORD, ANYBODY)
    passwords.close()


@pytest.mark.parametrize(
    "password", ["x" * 15, "x" * 1024, "\u00e9" * 15, "e\u0301" * 1024, "\U0001f600" * 15, " " * 15]
)
@pytest.mark.asvs("6.2.1", "6.2.5", "6.2.9")
def test_a_password_of_15_to_1024_characters_is_accepted(password: str) -> None:
    Passwords.check_rules(password)


@pytest.mark.asvs("6.2.1")
@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", "at least 15"),
        ("x" * 14, "at least 15"),
        ("e\u0301" * 14, "at least 15"),
        ("x" * 1025, "at most 1024"),
    ],
)
def test_a_shorter_or_longer_password_is_refused(password: str, message: str) -> None:
    with pytest.raises(PasswordRefused, match=message):
        Passwords.check_rules(password)


@asynchronous
async def test_a_long_run_of_combining_characters_is_not_normalised() -> None:
    """Sorting takes time quadratic in its length, and blocks the interpreter."""
    passwords = cheap()
    marks = "\u0301\u0316" * 15
    Passwords.check_rules(f"{PASSWORD}{marks}")
    with pytest.raises(PasswordRefused, match="30"):
        Passwords.check_rules(f"{PASSWORD}{marks}\u0301")
    hashed = await passwords.hash(f"{PASSWORD}{marks}", ANYBODY)
    assert await passwords.verify(hashed, unicodedata.normalize("NFD", f"{PASSWORD}{marks}"), ANYBODY)
    assert not await passwords.verify(hashed, f"{PASSWORD}{marks}\u0301", ANYBODY)
    passwords.close()


@asynchronous
async def test_passwords_are_normalised_in_the_threads_that_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        seen.add(threading.current_thread().name)
        return original(form, text)

    original = unicodedata.normalize
    passwords = cheap()
    monkeypatch.setattr(unicodedata, "normalize", normalize)
    await passwords.check_new(PASSWORD, ["ada@example.org"], ANYBODY)
    assert await passwords.verify(await passwords.hash(PASSWORD, ANYBODY), PASSWORD, ANYBODY)
    passwords.close()
    assert seen == {"interlock-argon2"}


@pytest.mark.asvs("6.2.8")
@asynchronous
async def test_equivalent_unicode_spellings_are_the_same_password() -> None:
    passwords = cheap()
    composed = unicodedata.normalize("NFC", "pässwörd with ünicode")
    hashed = await passwords.hash(composed, ANYBODY)
    assert await passwords.verify(hashed, unicodedata.normalize("NFD", composed), ANYBODY)
    passwords.close()


@pytest.mark.asvs("6.3.1")
@asynchronous
async def test_hashing_does_not_block_the_event_loop_and_has_a_limit() -> None:
    passwords = cheap(workers=1, max_waiting=2)
    gate, started = threading.Event(), threading.Event()

    def slow(_password: bytes) -> str:
        started.set()
        assert gate.wait(10)
        return "hash"

    waiting = [asyncio.create_task(passwords._run(ANYBODY, slow, b"")) for _ in range(3)]
    late = asyncio.create_task(passwords.hash(PASSWORD, ANYBODY))
    assert await asyncio.to_thread(started.wait, 10)
    refused = late.done()
    gate.set()
    assert await asyncio.gather(*waiting) == ["hash"] * 3
    assert refused, "it waits like the others"
    with pytest.raises(Overloaded):
        await late
    assert await passwords.hash(PASSWORD, ANYBODY)
    passwords.close()


@asynchronous
async def test_at_most_two_hashes_of_an_account_at_a_time() -> None:
    """One for known devices and one for strangers, whatever the number of threads."""
    passwords = cheap(workers=8)
    gate = threading.Event()
    computing: list[Requester] = []

    def slow(requester: Requester) -> None:
        computing.append(requester)
        assert gate.wait(10)

    asked = [Requester(ANYBODY.account, PLACE, known=known) for known in (True, False)] * 4
    waiting = [asyncio.create_task(passwords._run(each, slow, each)) for each in asked]
    for known in (True, False):
        # The other threads are free.
        await passwords._run(Requester("bob@example.org", PLACE, known=known), str)
    await eventually(lambda: len(computing) >= 2)
    at_once = [each.known for each in computing]
    gate.set()
    await asyncio.gather(*waiting)
    assert sorted(at_once) == [False, True]
    assert len(computing) == len(asked)
    passwords.close()


@asynchronous
async def test_an_abandoned_hash_is_not_computed() -> None:
    passwords = cheap(workers=1, max_waiting=10)
    gate, started = threading.Event(), threading.Event()
    computed: list[str] = []

    def slow() -> None:
        started.set()
        assert gate.wait(10)

    first = asyncio.create_task(passwords._run(ANYBODY, slow))
    waiting = [asyncio.create_task(passwords._run(ANYBODY, computed.append, name)) for name in ("gone", "there")]
    assert await asyncio.to_thread(started.wait, 10)
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, waiting[1])
    assert computed == ["there"]
    assert passwords.waiting == 0
    passwords.close()


@asynchronous
async def test_waiting_hashes_are_dropped_when_the_server_stops() -> None:
    passwords = cheap(workers=1, max_waiting=10)
    gate, started = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert gate.wait(10)
        return "done"

    waiting = [asyncio.create_task(passwords._run(ANYBODY, slow)) for _ in range(3)]
    assert await asyncio.to_thread(started.wait, 10)
    threading.Timer(0.05, gate.set).start()
    passwords.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert outcomes[0] == "done"
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[1:])


@asynchronous
async def test_an_account_is_registered_and_its_password_verified(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        owner = await house.register(" Ada@Example.ORG ", PASSWORD)
        assert owner.data.email == "ada@example.org"
        assert PASSWORD not in (owner.data.password_hash or PASSWORD)
        assert await house.verify_password(asks("ADA@example.org"), PASSWORD) == owner
        for email, password in (("ada@example.org", "wrong"), ("bob@example.org", PASSWORD), ("no address", "")):
            with pytest.raises(CredentialInvalid):
                await house.verify_password(asks(email), password)
        with pytest.raises(AccountExists):
            await house.register("ada@example.org", PASSWORD)


@asynchronous
async def test_a_login_to_an_unknown_account_costs_an_argon2_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    original = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hashed: str, password: bytes) -> bool:
        runs.append(hashed)
        return original(self, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    async with accounts_in(tmp_path) as house:
        owner = await house.register("ada@example.org", PASSWORD)
        for email in ("ada@example.org", "nobody@example.org"):
            with pytest.raises(CredentialInvalid):
                await house.verify_password(asks(email), "wrong")
        nobody = (await house.sessions.begin("acc_nobody", Authenticate("acc_nobody", "password"))).instance
        with pytest.raises(PasswordWrong):
            await house.change(nobody, "wrong", PASSWORD)
    assert len(runs) == 3
    known, unknown, _ = map(argon2.extract_parameters, runs)
    assert known == unknown
    assert runs[0] == owner.data.password_hash


@pytest.mark.asvs("6.2.4", "6.2.11")
@asynchronous
async def test_an_easy_password_is_refused_at_registration_and_change(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        for easy in ("passwordpassword", "ada@example.org1", "interlock-interlock"):
            with pytest.raises(PasswordRefused):
                await house.register("ada@example.org", easy)
        session = await house.log_in(await house.register("ada@example.org", PASSWORD))
        for easy in ("passwordpassword", "ada@example.org1"):
            with pytest.raises(PasswordRefused):
                await house.change(session, PASSWORD, easy)


@pytest.mark.asvs("6.2.8")
@asynchronous
async def test_a_password_is_verified_as_typed(tmp_path: Path) -> None:
    """No truncation, no folding, no trimming."""
    long = PASSWORD + " and a tail" * 80
    async with accounts_in(tmp_path) as house:
        await house.register("ada@example.org", long)
        await house.verify_password(asks("ada@example.org"), long)
        for wrong in (long[:-1], long + " ", " " + long, long.upper(), long[:72], long[:64]):
            with pytest.raises(CredentialInvalid):
                await house.verify_password(asks("ada@example.org"), wrong)


@pytest.mark.asvs("11.2.2", "11.4.2")
@asynchronous
async def test_a_login_replaces_a_hash_with_older_parameters(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        before = await house.register("ada@example.org", PASSWORD)
    stronger = Passwords(memory_kib=16, iterations=2, workers=2, max_waiting=10)
    async with accounts_in(tmp_path, stronger) as house:
        with pytest.raises(CredentialInvalid):
            await house.verify_password(asks("ada@example.org"), "wrong")
        assert await house.accounts.by_id(before.account_id) == before, "only who knows the password"
        proofs = await asyncio.gather(*(house.verify_password(asks("ada@example.org"), PASSWORD) for _ in range(8)))
        after = await house.accounts.by_id(before.account_id)
        assert after is not None
        assert argon2.extract_parameters(after.data.password_hash or "").memory_cost == 16
        assert (after.account.version, after.account.epoch) == (2, 0), "once"
        assert after.account.password_changed_at_ms == before.account.password_changed_at_ms
        sessions = [await house.log_in(proof) for proof in proofs]
        assert await house.verify_password(asks("ada@example.org"), PASSWORD) == after
        await house.change(sessions[0], PASSWORD, "another long password")
        await house.verify_password(asks("ada@example.org"), "another long password")


@asynchronous
async def test_a_login_succeeds_even_if_rehashing_is_overloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_in(tmp_path) as house:
        before = await house.register("ada@example.org", PASSWORD)
    stronger = Passwords(memory_kib=16, iterations=2, workers=2, max_waiting=10)

    async def busy(_password: str, _requester: Requester) -> str:
        raise Overloaded

    monkeypatch.setattr(stronger, "hash", busy)
    async with accounts_in(tmp_path, stronger) as house:
        assert await house.verify_password(asks("ada@example.org"), PASSWORD) == before


@pytest.mark.asvs("6.1.1")
@asynchronous
async def test_a_flood_of_strangers_leaves_places_for_known_devices() -> None:
    passwords = cheap(workers=1, max_waiting=2)
    hashed = await passwords.hash(PASSWORD, ANYBODY)
    gate = threading.Event()
    strangers = [asyncio.create_task(passwords._run(ANYBODY, gate.wait, 10)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.verify(hashed, PASSWORD, ANYBODY)
    owner = Requester("ada@example.org", PLACE, known=True)
    assert await passwords.verify(hashed, PASSWORD, owner), "while every thread of the strangers is busy"
    gate.set()
    await asyncio.gather(*strangers)
    passwords.close()


@pytest.mark.asvs("6.2.10")
@asynchronous
async def test_a_password_does_not_expire(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        owner = await house.register("ada@example.org", PASSWORD)
        house.clock.advance(50 * 366 * 86_400_000)
        assert await house.verify_password(asks("ada@example.org"), PASSWORD) == owner
