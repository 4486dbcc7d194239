"""Accounts forged by an attacker who can write the file but has no key: refused, and `interlock verify` reports them."""

from __future__ import annotations

import asyncio
import base64
import shutil
from pathlib import Path
from typing import Final

import argon2
import pytest

from interlock.machine.account.commitments import commit
from tests.support.admin import Admin, admin_token
from tests.support.client import PASSWORD, Client
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.tampering import shell
from tests.support.verifying import verify

ADA: Final = "ada@example.org"
BOB: Final = "bob@example.org"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder that a server left cleanly: Ada, Bob, and a deleted account."""

    async def use(server: ServerProcess) -> None:
        async with Client(server.url) as client, Admin(server.url, admin_token(server.data)) as admin:
            for email in (ADA, BOB, "eve@example.org"):
                (await client.register(email)).raise_for_status()
            (eve,) = await admin.get("/accounts", email="eve@example.org")
            (await admin.http.delete(f"/accounts/{eve['subject']}")).raise_for_status()

    data = tmp_path_factory.mktemp("accounts") / "data"
    with running_server(data) as server:
        asyncio.run(use(server))
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    assert verify(tmp_path / "data").exit_code == 0
    return tmp_path / "data"


FORGED: Final = argon2.PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash(PASSWORD + " of the forger")
PERSONAL: Final = {
    "a password of the forger's": f"password_hash = '{FORGED}'",
    "no password": "password_hash = NULL",
    "another address": "email = 'ada@example.net'",
    "an identity": "issuer = 'https://id.example', subject = 'mallory'",
    "another key": f"commitment_key = '{'A' * 43}='",
    "a key that is none": "commitment_key = 'no key'",
    "another account": "account_id = (SELECT instance_id FROM instances WHERE state = 'deleted')",
}


@pytest.mark.parametrize("change", PERSONAL.values(), ids=PERSONAL)
@scenario()
async def test_forged_personal_data_opens_nothing(data: Path, change: str) -> None:
    """Whatever the password is. Another account's opens that account."""
    with shell(data) as log:
        log.execute(f"UPDATE personal_data SET {change} WHERE email = ?", (ADA,))  # noqa: S608  # texts of ours
    outcome = verify(data)
    assert outcome.exit_code == 1
    assert "personal data" in outcome.stderr
    with running_server(data) as server:
        async with Client(server.url) as client:
            email = "ada@example.net" if "ada@example.net" in change else ADA
            for password in (PASSWORD, PASSWORD + " of the forger"):
                assert (await client.sibling().log_in(email, password)).status_code == 503
            (await client.sibling().log_in(BOB)).raise_for_status()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM personal_data WHERE email = 'ada@example.org'", "is missing"),
        (
            "INSERT INTO personal_data SELECT instance_id, 'AAAA', 'x', NULL, NULL, NULL FROM instances WHERE ended",
            "which the log does not have, or has deleted",
        ),
    ],
)
def test_missing_or_surplus_personal_data_is_a_fault(data: Path, change: str, words: str) -> None:
    with shell(data) as log:
        log.execute(change)
    outcome = verify(data)
    assert outcome.exit_code == 1
    assert words in outcome.stderr


FOLDS: Final = {
    "groups": "fold = json_set(fold, '$.groups', json('[\"admins\"]'))",
    "a disabled account": "state = 'disabled', fold = json_set(fold, '$.state', 'disabled', '$.disabled_at_ms', 1)",
    "an epoch": "epoch = 7, fold = json_set(fold, '$.epoch', 7)",
    "a password": "fold = json_set(fold, '$.password', (SELECT fold ->> '$.password' FROM instances AS i"
    " JOIN personal_data ON i.instance_id = account_id WHERE email = 'bob@example.org'))",
    "a version": "version = version + 1, fold = json_set(fold, '$.version', version + 1)",
    "the columns alone": "epoch = 7",
}


@pytest.mark.parametrize("change", FOLDS.values(), ids=FOLDS)
@scenario()
async def test_an_account_that_differs_from_its_records_is_not_served(data: Path, change: str) -> None:
    """Other accounts are."""
    with shell(data) as log:
        log.execute(
            f"UPDATE instances SET {change} WHERE kind = 'account'"  # noqa: S608  # texts of ours
            " AND instance_id = (SELECT account_id FROM personal_data WHERE email = ?)",
            (ADA,),
        )
    assert verify(data).exit_code == 1
    with running_server(data) as server:
        async with Client(server.url) as client, Admin(server.url, admin_token(server.data, "second")) as admin:
            assert (await client.sibling().log_in(ADA)).status_code == 503
            assert (await admin.http.get("/accounts", params={"email": ADA})).status_code == 503
            (await client.sibling().log_in(BOB)).raise_for_status()


@scenario()
async def test_a_fold_and_its_personal_data_forged_together_open_nothing(data: Path) -> None:
    """The forger has the account's key, and so can commit to any password."""
    with shell(data) as log:
        account_id, key = log.execute(
            "SELECT account_id, commitment_key FROM personal_data WHERE email = ?", (ADA,)
        ).fetchone()
        commitment = commit(base64.b64decode(key), "password_hash", FORGED)
        log.execute("UPDATE personal_data SET password_hash = ? WHERE account_id = ?", (FORGED, account_id))
        log.execute(
            "UPDATE instances SET fold = json_set(fold, '$.password', ?) WHERE instance_id = ?",
            (commitment, account_id),
        )
    assert verify(data).exit_code == 1
    with running_server(data) as server:
        async with Client(server.url) as client:
            assert (await client.log_in(ADA, PASSWORD + " of the forger")).status_code == 503
