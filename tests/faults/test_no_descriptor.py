"""No file descriptor is left: open connections work on, and removed files are still noticed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from interlock.server.guard.secrets import Secrets
from tests.faults.test_keys_gone import ready, unusable
from tests.support.admin import admin_token, remove_admin
from tests.support.client import Client, closed, hello, logged_in, new_email
from tests.support.few_files import no_descriptor
from tests.support.log import interlock, verify
from tests.support.metrics import log_rows
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

KEPT_S = 600


@asynccontextmanager
async def one_connection(url: str) -> AsyncIterator[Client]:
    """Return a logged-in client that sends everything over one keep-alive connection."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEPT_S)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        yield await logged_in(url, http)


async def all_is_answered(client: Client, secrets: dict[str, str]) -> None:
    """Check calls with each kind of credential over the client's connection, some of which write."""
    assert (await client.session())["state"] in {"authenticated", "connected"}
    (await client.refresh()).raise_for_status()
    asked_for = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": urlsplit(client.url).netloc}
    assert (await client.request("GET", "/api/forward-auth", headers=asked_for)).status_code == 200
    bearer = {"Authorization": f"Bearer {secrets['admin']}"}
    assert (await client.http.get("/api/admin/audit", headers=bearer)).status_code == 200
    asked = await client.http.post(
        "/oauth/introspect", auth=("gateway", secrets["client"]), data={"token": client.access_token}
    )
    assert asked.json()["active"] is True


def made_secrets(server: ServerProcess) -> dict[str, str]:
    return {
        "admin": admin_token(server.data),
        "client": Secrets(server.data / "keys", "client").create("gateway", 1),
    }


async def kids(client: Client) -> list[str]:
    return [key["kid"] for key in (await client.http.get("/.well-known/jwks.json")).json()["keys"]]


def events(server: ServerProcess, name: str) -> list[dict[str, Any]]:
    return [row for row in log_rows(server) if row["event"] == name]


async def has_keys(client: Client, count: int) -> bool:
    return len(await kids(client)) == count


@scenario()
async def test_open_connections_are_answered_with_no_descriptor_left(tmp_path: Path) -> None:
    """Neither checking known files nor writing to an open database takes a descriptor."""
    with running_server(tmp_path / "data", log_json=True, keep_alive_s=KEPT_S, ping_interval_s=KEPT_S) as server:
        secrets = made_secrets(server)
        async with one_connection(server.url) as client, client.connect() as open_socket:
            await hello(open_socket)
            # Import everything now that is imported at its first use.
            await all_is_answered(client, secrets)
            taken = {"email": client.email, "password": "correct horse battery staple"}
            assert (await client.http.post("/api/auth/register", json=taken)).status_code == 409
            with no_descriptor(server.pid):
                await eventually(lambda: events(server, "files.unchecked"))
                await all_is_answered(client, secrets)
                # A savepoint undoes a unit of a batch that violates a constraint.
                assert (await client.http.post("/api/auth/register", json=taken)).status_code == 409
                new = client.sibling()
                (await new.begin()).raise_for_status()
                assert (await new.session())["state"] == "created"
                assert await ready(client) == (200, "ok")
                await open_socket.ping()
            assert interlock("keys", "rotate", "--data", server.data).returncode == 0
            await eventually(lambda: has_keys(client, 2))
            await all_is_answered(client, secrets)
        assert unusable(server) == []
        told = [row["path"] for row in events(server, "files.unchecked")]
        assert sorted(told) == sorted(set(told)), "each is told once"
    verify(server.data)


@scenario()
async def test_removed_keys_and_secrets_are_void_without_free_descriptors(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, keep_alive_s=KEPT_S) as server:
        secrets = made_secrets(server)
        keys = server.data / "keys"
        async with one_connection(server.url) as client:
            (old,) = await kids(client)
            stolen = client.access_token
            assert interlock("keys", "rotate", "--now", "--data", server.data).returncode == 0
            await eventually(lambda: has_keys(client, 2))
            (await client.refresh()).raise_for_status()
            await all_is_answered(client, secrets)
            with no_descriptor(server.pid):
                await eventually(lambda: events(server, "files.unchecked"))
                remove_admin(server.data)
                bearer = {"Authorization": f"Bearer {secrets['admin']}"}
                answer = await client.http.get("/api/admin/audit", headers=bearer)
                # Whether a new file of the name exists can't be checked.
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
                assert interlock("keys", "retire", old, "--force", "--data", server.data).returncode == 0
                await eventually(lambda: has_keys(client, 1))
                answer = await client.http.get("/api/session", headers={"Authorization": f"Bearer {stolen}"})
                assert answer.status_code == 401
                assert (await client.session())["state"] == "authenticated"
                (keys / "refresh.key").rename(keys / "away")
                await eventually(lambda: unusable(server))
                assert (await client.request("GET", "/api/session")).status_code == 503
                (keys / "away").rename(keys / "refresh.key")
            await eventually(lambda: events(server, "keys.usable"))
            answer = await client.http.get("/api/admin/audit", headers=bearer)
            assert answer.status_code == 401
            assert (await client.session())["state"] == "authenticated"


@scenario()
async def test_a_missing_database_stops_the_log_with_no_descriptor_left(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, model_trace="") as server:
        async with await logged_in(server.url) as client, client.connect() as open_socket:
            await hello(open_socket)
            with no_descriptor(server.pid):
                server.database.rename(server.data / "away")
                assert (await closed(open_socket))[0] == 1011
            (failed, *_) = await eventually(lambda: events(server, "surface.failed"))
            assert "is gone" in failed["failure"]


@scenario()
async def test_a_checkpoint_of_the_database_needs_no_descriptor(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", keep_alive_s=KEPT_S) as server:
        async with one_connection(server.url) as client:
            size = server.database.stat().st_size
            with no_descriptor(server.pid):
                for _ in range(3000):
                    (await client.http.post("/api/session")).raise_for_status()
                    if server.database.stat().st_size > size:
                        break
            assert server.database.stat().st_size > size
    verify(server.data)


@scenario()
async def test_listener_and_head_recover_once_there_are_descriptors_again(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, keep_alive_s=KEPT_S) as server:
        async with one_connection(server.url) as client:
            with no_descriptor(server.pid):
                (await client.http.post("/api/session")).raise_for_status()
                await eventually(lambda: events(server, "head.failed"))
                parts = urlsplit(server.url)
                waiting = [socket.create_connection((parts.hostname or "", parts.port or 0), 60) for _ in range(5)]
                (await client.refresh()).raise_for_status()
            for raw in waiting:
                raw.close()
            async with Client(server.url) as newcomer:
                (await newcomer.register(new_email())).raise_for_status()
            await eventually(lambda: interlock("verify", server.data, "--require-head").returncode == 0)
            assert len(events(server, "head.failed")) == 1
