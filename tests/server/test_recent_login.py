"""Ending other sessions needs a recent login; ending one's own never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.server import running_server


@pytest.mark.asvs("7.5.2")
@asynchronous
async def test_whoever_logged_in_long_ago_ends_no_session_but_the_own(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", recent_login_s=0.001) as server:
        async with await logged_in(server.url) as client:
            other = client.sibling()
            await other.begin()
            await other.log_in(client.email)
            for path in (f"/api/sessions/{other.session_id}", "/api/sessions"):
                refused = await client.request("DELETE", path)
                assert refused.status_code == 401
                assert refused.json()["type"] == "urn:interlock:problem:login-too-old"
                challenge = refused.headers["www-authenticate"]
                assert 'error="insufficient_user_authentication", max_age=0' in challenge
            assert len((await other.request("GET", "/api/sessions")).json()) == 2, "nothing has ended"
            assert (await client.request("DELETE", f"/api/sessions/{client.session_id}")).status_code == 204
            assert len((await other.request("GET", "/api/sessions")).json()) == 1


@pytest.mark.asvs("7.5.2")
@asynchronous
async def test_a_recent_login_is_proof_enough(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", recent_login_s=600) as server:
        async with await logged_in(server.url) as client:
            other = client.sibling()
            await other.begin()
            await other.log_in(client.email)
            assert (await client.request("DELETE", f"/api/sessions/{other.session_id}")).status_code == 204
            assert (await other.request("GET", "/api/session")).status_code == 401
