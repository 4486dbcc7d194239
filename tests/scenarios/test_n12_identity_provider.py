"""N12 for logins at an identity provider: their failures also leave the client a way to recover."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.hostile import AUDIENCE, KEYS, hostile_provider
from tests.support.running import eventually, scenario
from tests.support.server import running_server


@scenario()
async def test_n12_following_the_recovery_recovers_from_exchange_problems(data: Path) -> None:
    """A failure leaves the client without a declared way to recover: never again. The provider's, and the account's."""
    with hostile_provider() as provider:
        settings = {"oidc_issuer": provider.issuer, "oidc_audiences": AUDIENCE, "oidc_retry_s": 0.05}
        with running_server(data, oidc_accounts="known", **settings) as server:
            provider.serve(KEYS, b"", 500)
            token = {"id_token": provider.token()}
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
                answer = await http.post("/api/auth/exchange", json=token)
                assert answer.json()["type"] == "urn:interlock:problem:identity-provider-unavailable"
                assert answer.json()["recovery"] == "retry_later"
                provider.publish()

                async def answered() -> httpx.Response | None:
                    assert int(answer.headers["retry-after"]) >= 1
                    again = await http.post("/api/auth/exchange", json=token)
                    return None if again.status_code == 503 else again

                answer = await eventually(answered)
                assert answer.json()["type"] == "urn:interlock:problem:identity-refused"
                assert answer.json()["recovery"] == "ask_administrator"
        with running_server(data, **settings) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
                answer = await http.post("/api/auth/exchange", json=token)
                assert (answer.status_code, answer.json()["state"]) == (200, "authenticated")
