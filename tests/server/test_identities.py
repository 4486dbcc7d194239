"""Users of an identity provider: their account, its groups, and the token that the login uses up."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.machine.account.account import Account
from interlock.machine.account.commands import Disable
from interlock.machine.errors import AccountDisabled, CredentialInvalid, IdentityRefused, SurfaceFailed
from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.guard.oidc.id_tokens import VerifiedIdentity
from interlock.server.runtime.door import Recorded
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.asynchronous import asynchronous
from tests.support.hostile import AUDIENCE, hostile_provider
from tests.support.inside import client_of
from tests.support.logging_in import House, accounts_in
from tests.support.tampering import shell

_numbers = count(1)
_FOR_EVER_MS = 2**50


def identity(
    subject: str = "ada", groups: tuple[str, ...] | None = ("ops",), issuer: str = "https://id.example"
) -> VerifiedIdentity:
    """Return a verified identity with a new token."""
    return VerifiedIdentity(issuer, subject, groups, next(_numbers).to_bytes(32, "big"), _FOR_EVER_MS)


async def log_in(house: House, arrived: VerifiedIdentity) -> Session:
    return (await (await house.logins.login_by(arrived)).record(None)).instance


async def account_of(house: House, arrived: VerifiedIdentity) -> Account:
    return await house.accounts.load((await log_in(house, arrived)).subject or "")


@asynchronous
async def test_a_users_first_exchange_creates_the_account_that_later_ones_find(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        first = await account_of(house, identity())
        assert (first.groups, first.email, first.password) == (("ops",), None, None)
        assert await account_of(house, identity()) == first


@asynchronous
async def test_concurrent_first_exchanges_create_one_account(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        found = await asyncio.gather(*(account_of(house, identity()) for _ in range(10)))
        assert len({account.account_id for account in found}) == 1


@asynchronous
async def test_an_identity_without_a_record_is_refused(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        await log_in(house, identity())
        with shell(tmp_path) as log:
            log.execute("UPDATE personal_data SET subject = 'mallory' WHERE subject = 'ada'")
        with pytest.raises(SurfaceFailed):
            await log_in(house, identity("mallory"))


@pytest.mark.asvs("10.3.3")
@asynchronous
async def test_the_same_subject_at_another_issuer_is_another_account(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        identities = [identity(), identity(issuer="https://other.example"), identity("bob")]
        assert len({(await account_of(house, each)).account_id for each in identities}) == 3


@asynchronous
async def test_groups_are_those_of_the_last_exchange_that_had_any(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        for groups, kept, version in (
            (None, (), 1),
            (("a", "b"), ("a", "b"), 2),
            (("a", "b"), ("a", "b"), 2),
            (None, ("a", "b"), 2),
            ((), (), 3),
        ):
            account = await account_of(house, identity(groups=groups))
            assert (account.groups, account.version) == (kept, version)


@pytest.mark.asvs("2.3.4")
@asynchronous
async def test_of_concurrent_logins_with_one_token_the_first_uses_it_up(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        one = identity()
        outcomes = await asyncio.gather(*(log_in(house, one) for _ in range(10)), return_exceptions=True)
        assert [isinstance(outcome, CredentialInvalid) for outcome in outcomes].count(True) == 9
        assert [isinstance(outcome, Session) for outcome in outcomes].count(True) == 1
        other = msgspec.structs.replace(one, subject="bob", groups=("admins",))
        with pytest.raises(CredentialInvalid, match="already exchanged"):
            await log_in(house, other)
        assert await house.accounts.by_identity("https://id.example", "bob") is None


@asynchronous
async def test_an_unrecorded_login_does_not_use_up_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with accounts_in(tmp_path) as house:
        one = identity()
        with monkeypatch.context() as patched:
            patched.setattr(house.sessions, "begin", lambda *_, **__: _refused())
            with pytest.raises(IdentityRefused):
                await log_in(house, one)
        await log_in(house, one)


@asynchronous
async def test_an_unrecorded_login_changes_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with accounts_in(tmp_path) as house:
        before = await account_of(house, identity(groups=("ops",)))
        with monkeypatch.context() as patched:
            patched.setattr(house.sessions, "begin", lambda *_, **__: _refused())
            with pytest.raises(IdentityRefused):
                await log_in(house, identity(groups=("admins",)))
        assert await house.accounts.load(before.account_id) == before
        session = await log_in(house, other := identity(groups=("admins",)))
        assert (await house.accounts.load(before.account_id)).groups == ("admins",)
        with pytest.raises(CredentialInvalid):
            await log_in(house, msgspec.structs.replace(other, groups=("ops",)))
        assert (await house.accounts.load(before.account_id)).groups == ("admins",)
        assert session.subject == before.account_id


async def _refused() -> None:
    raise IdentityRefused("not now")


@pytest.mark.asvs("2.3.3")
@asynchronous
async def test_without_registration_only_known_users_are_admitted(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        stranger = identity("stranger")
        house.logins._register = False
        with pytest.raises(IdentityRefused):
            await log_in(house, stranger)
        house.logins._register = True
        await log_in(house, stranger)
        house.logins._register = False
        await log_in(house, identity("stranger"))


@pytest.mark.asvs("7.4.2")
@asynchronous
async def test_a_disabled_accounts_exchange_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        account_id = (await account_of(house, identity())).account_id
        disabled = (await house.accounts.ask(account_id, "admin:eve", Disable())).instance
        with pytest.raises(AccountDisabled):
            await log_in(house, identity(groups=("admins",)))
        assert await house.accounts.load(account_id) == disabled


@pytest.mark.asvs("7.4.2")
@asynchronous
async def test_an_exchange_overtaken_by_a_disable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange was admitted before, and would be recorded after: no session is."""
    with hostile_provider() as provider:
        settings = Settings(
            data=str(tmp_path / "data"),
            cheap_passwords_for_tests=True,
            oidc_issuer=provider.issuer,
            oidc_audiences=(AUDIENCE,),
        )
        async with open_services(settings) as services, client_of(app_over(services)) as http:
            authenticate = services.sessions.authenticate
            begun: list[Session] = []

            async def late(session: Session | None, login: Authenticate, **named: Any) -> Recorded[Session]:
                await services.accounts.ask(login.subject, "admin:eve", Disable())
                outcome = await authenticate(session, login, **named)
                begun.append(outcome.instance)
                return outcome

            monkeypatch.setattr(services.sessions, "authenticate", late)
            answer = await http.post("/api/auth/exchange", json={"id_token": provider.token()})
            served = await http.get(
                "/api/session", headers={"authorization": f"Bearer {answer.json().get('access_token')}"}
            )
            assert served.status_code == 401
            assert (answer.status_code, answer.json().get("type")) == (
                403,
                "urn:interlock:problem:identity-refused",
            )
            assert begun == []
