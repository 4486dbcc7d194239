"""The identity store runs its contract; and an account that is disabled in the middle of an exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.runtime.door import Outcome
from interlock.server.settings import Settings
from interlock.server.surface.accounts import AccountStore
from interlock.server.surface.identities import IdentityStore
from interlock.server.surface.sqlite.accounts import SqliteAccounts, SqliteIdentities
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.writer import Writer, raise_again
from interlock.server.system.supervision import Supervisor
from interlock.server.wiring import open_services
from tests.server.identity_contract import IdentityStoreContract
from tests.support.asynchronous import asynchronous
from tests.support.hostile import AUDIENCE, hostile_provider
from tests.support.inside import client_of


async def disable(writer: Writer, account_id: str, at_ms: int) -> None:
    statement = "UPDATE accounts SET disabled_at_ms = ? WHERE account_id = ?"
    await writer.submit(lambda connection: connection.execute(statement, (at_ms, account_id)) and None, raise_again)


class TestSqliteIdentities(IdentityStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[IdentityStore, AccountStore]]:
        async with open_surface(folder, max_waiting=1000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            self.store = surface.identities
            yield surface.identities, surface.accounts

    async def disable(self, account_id: str, at_ms: int) -> None:
        assert isinstance(self.store, SqliteIdentities)
        await disable(self.store._writer, account_id, at_ms)


@pytest.mark.asvs("7.4.2")
@asynchronous
async def test_an_account_that_is_disabled_while_its_owner_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange was admitted before, and would be recorded after: no session is."""
    with hostile_provider() as provider:
        settings = Settings(
            data=str(tmp_path / "data"),
            cheap_passwords_for_tests=True,
            upstream_issuer=provider.issuer,
            upstream_audiences=(AUDIENCE,),
        )
        async with open_services(settings) as services, client_of(app_over(services)) as http:
            authenticate = services.sessions.authenticate
            begun: list[Session] = []

            async def late(session: Session | None, subject: str, method: str, **proof: Any) -> Outcome[Session]:
                accounts: Any = services.known_accounts._store
                assert isinstance(accounts, SqliteAccounts)
                await disable(accounts._writer, subject, 1)
                outcome = await authenticate(session, subject, method, **proof)
                begun.append(outcome.instance)
                return outcome

            monkeypatch.setattr(services.sessions, "authenticate", late)
            answer = await http.post("/api/auth/exchange", json={"id_token": provider.token()})
            assert (answer.status_code, answer.json().get("type")) == (
                403,
                "urn:interlock:problem:identity-refused",
            )
            assert begun == []
