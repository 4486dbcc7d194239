"""Login with an independent provider: Django OAuth Toolkit as a process, the real server, the real flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.server.surface.accounts import Owner
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.stores.accounts import PERSONAL_COLUMNS, personal_data
from tests.support.admin import admin_token
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, hello, new_email
from tests.support.provider import Provider, running_provider
from tests.support.provider_site import CLIENT_ID
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_provider(tmp_path_factory.mktemp("provider") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def gate(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that trusts the provider."""
    with running_server(tmp_path_factory.mktemp("gate") / "data", **trusting(provider)) as process:
        yield process


def trusting(provider: Provider) -> dict[str, Any]:
    return {"oidc_issuer": provider.issuer, "oidc_audiences": CLIENT_ID, "oidc_retry_s": 0.01}


def exchange(url: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/api/auth/exchange", json=body, headers=headers, timeout=60)


def enter(gate: ServerProcess, provider: Provider, name: str = "ada") -> dict[str, Any]:
    answer = exchange(gate.url, {"id_token": provider.log_in(name)["id_token"]})
    tokens: dict[str, Any] = answer.raise_for_status().json()
    return tokens


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def subject_of(url: str, tokens: dict[str, Any]) -> str:
    view = httpx.get(f"{url}/api/session", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    return str(view.raise_for_status().json()["subject"])


def account(data: Path, account_id: str) -> Owner:
    with open_archive(data) as archive:
        (row,) = archive._database.execute(
            f"SELECT {PERSONAL_COLUMNS}, fold FROM personal_data JOIN instances ON instance_id = account_id"  # noqa: S608  # column names of ours
            " WHERE account_id = ?",
            (account_id,),
        ).fetchall()
    return Owner(ACCOUNT_MACHINE.decode(row[-1]), personal_data(row[:-1]))


def test_a_user_of_the_provider_gets_a_session_of_the_same_account(gate: ServerProcess, provider: Provider) -> None:
    first, second = enter(gate, provider), enter(gate, provider)
    assert first["state"] == second["state"] == "authenticated"
    assert first["session_id"] != second["session_id"]
    ada = subject_of(gate.url, first)
    assert ada == subject_of(gate.url, second)
    assert ada != subject_of(gate.url, enter(gate, provider, "bob"))
    history = httpx.get(
        f"{gate.url}/api/session/transitions", headers={"Authorization": f"Bearer {first['access_token']}"}
    ).json()
    assert history[1]["event"] == "authenticate"
    age_ms = history[1]["data"].pop("auth_age_ms")
    assert 0 < age_ms < 60_000, "since the login at the provider"
    assert history[1]["data"] == {"subject": ada, "method": "oidc"}
    kept = account(gate.data, ada)
    assert kept.account.groups == ("editors", "staff")
    assert (kept.data.email, kept.data.password_hash, kept.data.issuer) == (None, None, provider.issuer)
    own = httpx.get(f"{gate.url}/api/account", headers={"Authorization": f"Bearer {first['access_token']}"}).json()
    assert (own["subject"], own["email"], own["groups"]) == (ada, None, ["editors", "staff"])


@pytest.mark.asvs("7.2.4")
@asynchronous
async def test_an_exchange_on_an_anonymous_session_keeps_its_id_not_its_tokens(
    gate: ServerProcess, provider: Provider
) -> None:
    async with Client(gate.url) as client:
        await client.begin()
        before = dict(client.tokens)
        body = {"id_token": provider.log_in("ada")["id_token"]}
        answer = client._keep(await client.request("POST", "/api/auth/exchange", json=body))
        assert (answer.status_code, answer.json()["session_id"]) == (200, before["session_id"])
        async with client.connect() as socket:
            assert (await hello(socket))["session_id"] == before["session_id"], "connect at once after it"
        client.tokens = before
        assert problem(await client.request("GET", "/api/session")) == (401, "token-expired")
        assert problem(await client.refresh()) == (401, "credential-invalid")


@asynchronous
async def test_an_exchange_does_not_take_over_another_users_session(gate: ServerProcess, provider: Provider) -> None:
    async with Client(gate.url) as client:
        email = new_email()
        await client.register(email)
        await client.log_in(email)
        body = {"id_token": provider.log_in("ada")["id_token"]}
        answer = await client.request("POST", "/api/auth/exchange", json=body)
        assert problem(answer) == (409, "transition-refused")
        assert (await client.session())["state"] == "authenticated"


@pytest.mark.asvs("3.3.4", "3.5.1")
def test_an_exchange_by_a_page_sets_a_cookie_and_refuses_foreign_pages(gate: ServerProcess, provider: Provider) -> None:
    body = {"id_token": provider.log_in("ada")["id_token"]}
    foreign = exchange(gate.url, body, origin="https://evil.example")
    assert problem(foreign) == (403, "origin-refused")
    own = exchange(gate.url, body, origin=gate.url)
    assert own.status_code == 200, "and the refused try did not use the token up"
    assert "refresh_token" not in own.json()
    cookie = SimpleCookie(own.headers.get_list("set-cookie")[0])["__Host-interlock"]
    assert cookie["httponly"]
    again = exchange(
        gate.url,
        {"id_token": provider.log_in("bob")["id_token"]},
        origin=gate.url,
        cookie=f"__Host-interlock={cookie.value}",
    )
    assert again.json()["session_id"] != own.json()["session_id"], "another person's session ends there"
    assert exchange(gate.url, None, origin=gate.url).status_code == 401


@pytest.mark.asvs("7.6.1")
@asynchronous
async def test_an_id_token_is_exchanged_once_even_concurrently(gate: ServerProcess, provider: Provider) -> None:
    body = {"id_token": provider.log_in("ada")["id_token"]}
    async with httpx.AsyncClient(base_url=gate.url, timeout=60) as http:
        answers = await asyncio.gather(*(http.post("/api/auth/exchange", json=body) for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
        before = stored(gate.data)
        again = await http.post("/api/auth/exchange", json=body)
    assert problem(again) == (401, "credential-invalid")
    assert again.json()["detail"] == "the ID token was already exchanged"
    assert stored(gate.data) == before


@pytest.mark.parametrize(
    ("asked", "given", "status"),
    [("n-1", "n-1", 200), ("n-1", "n-2", 401), ("n-1", None, 401), (None, "n-1", 401)],
)
def test_the_nonce_must_be_the_clients(
    gate: ServerProcess, provider: Provider, asked: str | None, given: str | None, status: int
) -> None:
    body = {"id_token": provider.log_in("ada", asked)["id_token"], "nonce": given}
    assert exchange(gate.url, body).status_code == status


@pytest.mark.asvs("9.2.2", "10.3.1")
def test_no_token_is_accepted_as_another_kind(gate: ServerProcess, provider: Provider) -> None:
    theirs = provider.log_in("ada")
    ours = exchange(gate.url, {"id_token": theirs["id_token"]}).raise_for_status().json()
    before = stored(gate.data)
    for token in (theirs["access_token"], theirs["refresh_token"], ours["access_token"], ours["refresh_token"]):
        assert problem(exchange(gate.url, {"id_token": token})) == (401, "credential-invalid")
    fresh = provider.log_in("ada")
    for token in (fresh["id_token"], fresh["access_token"]):
        answer = httpx.get(f"{gate.url}/api/session", headers={"Authorization": f"Bearer {token}"})
        assert problem(answer) == (401, "credential-invalid")
        answer = httpx.post(f"{gate.url}/api/auth/refresh", json={"refresh_token": token[:512]})
        assert problem(answer) == (401, "credential-invalid")
    assert stored(gate.data) == before


@pytest.mark.asvs("3.5.3", "7.6.2", "14.2.1")
def test_no_link_and_no_page_load_creates_a_session(gate: ServerProcess, provider: Provider) -> None:
    token = provider.log_in("ada")["id_token"]
    before = stored(gate.data)
    in_the_address = f"/api/auth/exchange?id_token={token}"
    for path in (in_the_address, "/api/auth/exchange"):
        assert httpx.get(gate.url + path).status_code == 405
    assert problem(httpx.post(f"{gate.url}{in_the_address}")) == (400, "bad-request")
    assert problem(httpx.post(f"{gate.url}/api/auth/exchange")) == (401, "credential-missing")
    form = httpx.post(f"{gate.url}/api/auth/exchange", data={"id_token": token})
    assert problem(form) == (415, "unsupported-media-type")
    assert stored(gate.data) == before
    assert exchange(gate.url, {"id_token": token}).status_code == 200


def test_a_server_without_a_provider_accepts_no_id_token(server: ServerProcess, provider: Provider) -> None:
    answer = exchange(server.url, {"id_token": provider.log_in("ada")["id_token"]})
    assert problem(answer) == (401, "credential-invalid")
    assert answer.json()["detail"] == "no identity provider is configured"


@pytest.mark.asvs("16.5.2")
def test_logins_survive_the_providers_key_rotation_and_outage(tmp_path: Path) -> None:
    with running_provider(tmp_path / "provider") as provider:
        settings = trusting(provider)
        with running_server(tmp_path / "data", **settings) as gate:
            ada = subject_of(gate.url, enter(gate, provider))
            by_old_key = provider.log_in("ada")["id_token"]
            provider.stop()
            provider.new_key()
            provider.people["ada"] = ["auditors"]
            provider.start()
            by_new_key = [provider.log_in("ada")["id_token"] for _ in range(4)]
            tokens = exchange(gate.url, {"id_token": by_new_key.pop()}).raise_for_status().json()
            assert subject_of(gate.url, tokens) == ada
            assert account(gate.data, ada).account.groups == ("auditors",), "as the provider says now"
            assert exchange(gate.url, {"id_token": by_old_key}).status_code == 200, "it is still published"
            used = by_old_key

            provider.stop()
            assert exchange(gate.url, {"id_token": by_new_key.pop()}).status_code == 200, "its keys are known"
            gate.stop()
            gate.start()
            before = stored(gate.data)
            waiting = {"id_token": by_new_key.pop()}
            answer = exchange(gate.url, waiting)
            assert problem(answer) == (503, "identity-provider-unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert stored(gate.data) == before

            provider.start()
            give_up_at = time.monotonic() + 60
            while (answer := exchange(gate.url, waiting)).status_code == 503 and time.monotonic() < give_up_at:
                time.sleep(0.02)
            assert answer.status_code == 200, "it was not used up"
            assert problem(exchange(gate.url, {"id_token": used})) == (401, "credential-invalid"), (
                "also not after a restart"
            )

            # Closed to new users, and to those whose account was disabled.
            gate.stop()
            gate._settings |= {"oidc_accounts": "known"}
            gate.start()
            before = stored(gate.data)
            refused = exchange(gate.url, {"id_token": provider.log_in("bob")["id_token"]})
            assert problem(refused) == (403, "identity-refused")
            assert stored(gate.data) == before
            assert exchange(gate.url, {"id_token": by_new_key.pop()}).status_code == 200
            headers = {"Authorization": f"Bearer {admin_token(gate.data)}"}
            disable = f"{gate.url}/api/admin/accounts/{ada}/disable"
            httpx.post(disable, headers=headers, timeout=60).raise_for_status()
            before = stored(gate.data)
            refused = exchange(gate.url, {"id_token": provider.log_in("ada")["id_token"]})
            assert problem(refused) == (403, "identity-refused")
            assert stored(gate.data) == before
