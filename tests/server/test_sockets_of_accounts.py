"""Sockets close once their account is disabled or deleted or its password changed, before the ends are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from interlock.machine.account.commands import Disable
from interlock.server.app import app_over
from interlock.server.guard.secrets import Secrets
from interlock.server.runtime.accounts.administration import Caller
from interlock.server.services import Services
from tests.support.accounts import registered
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, closed, hello
from tests.support.inside import client_of
from tests.support.running import eventually
from tests.support.wire import greeted, services_in

ADA = {"email": "ada@example.org", "password": PASSWORD}
BOB = {"email": "bob@example.org", "password": PASSWORD}


class Device(msgspec.Struct):
    """A session with an open socket."""

    session_id: str
    bearer: dict[str, str]
    socket: ClientConnection


def eve(services: Services) -> Caller:
    secrets = Secrets(Path(services.settings.data) / "keys", "admin")
    secret = services.admins.authenticate(secrets.create("eve", 1))
    return Caller(secret.actor, None, partial(services.secret_records.acting, secret))


async def device(http: httpx.AsyncClient, stack: AsyncExitStack, who: dict[str, str]) -> Device:
    login = (await http.post("/api/auth/login", json=who)).raise_for_status().json()
    bearer = {"Authorization": f"Bearer {login['access_token']}"}
    address = f"{str(http.base_url).replace('http', 'ws', 1).rstrip('/')}/api/connect"
    protocols: Any = ["interlock.v1"]
    socket = await stack.enter_async_context(connect(address, subprotocols=protocols, additional_headers=bearer))
    await hello(socket)
    return Device(login["session_id"], bearer, socket)


async def disable(services: Services, _http: httpx.AsyncClient, own: Device) -> None:
    await services.administration.disable(await owner_of(services, own), eve(services))


async def delete(services: Services, _http: httpx.AsyncClient, own: Device) -> None:
    await services.administration.delete(await owner_of(services, own), eve(services))


async def change_password(_services: Services, http: httpx.AsyncClient, own: Device) -> None:
    body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} again"}
    (await http.post("/api/auth/password", json=body, headers=own.bearer)).raise_for_status()


async def owner_of(services: Services, own: Device) -> str:
    return (await services.sessions.load(own.session_id)).subject or ""


@pytest.mark.asvs("7.4.2", "7.4.3")
@pytest.mark.parametrize(
    ("act", "own_close", "reason"),
    [
        (disable, (4403, "session ended: account_disabled"), "account_disabled"),
        (delete, (4403, "session ended: account_deleted"), "account_deleted"),
        (change_password, (4408, "token expired"), "password_changed"),
    ],
)
@asynchronous
async def test_sockets_of_an_account_close_while_the_ends_of_sessions_wait(
    tmp_path: Path,
    act: Callable[[Services, httpx.AsyncClient, Device], Awaitable[None]],
    own_close: tuple[int, str],
    reason: str,
) -> None:
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http, AsyncExitStack() as stack:
        for each in (ADA, BOB):
            (await http.post("/api/auth/register", json=each)).raise_for_status()
        own, other, stranger = [await device(http, stack, each) for each in (ADA, ADA, BOB)]
        end, room = services.sessions.end, asyncio.Event()

        async def end_later(*arguments: Any, **named: Any) -> Any:
            await room.wait()
            return await end(*arguments, **named)

        services.sessions.end = end_later  # type: ignore[method-assign]  # as if the log had no room
        acting = asyncio.ensure_future(act(services, http, own))
        assert await closed(own.socket) == own_close
        assert await closed(other.socket) == (4403, f"session ended: {reason}")

        async def gone() -> bool:
            return (await services.sessions.load(other.session_id)).state == "authenticated"

        await eventually(gone)  # that is recorded, and the end of the session is not
        await stranger.socket.send('{"type":"ping"}')
        assert await stranger.socket.recv() == '{"type":"pong"}'
        room.set()
        await acting
        assert (await services.sessions.load(other.session_id)).reason == reason
        assert not (await services.sessions.load(stranger.session_id)).ended


@asynchronous
async def test_an_account_change_by_another_process_closes_with_token_expired(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, wire, running = await greeted(services)
        await registered(services, "bob")
        (record,) = (await services.accounts.ask("bob", "admin:eve", Disable())).records
        move = msgspec.structs.replace(record.transition, instance_id="ada")
        services.connections.observe_account(msgspec.structs.replace(record, transition=move), None)
        await running
        assert wire.said == ["accept", "hello", "close 4408 token expired"]


@asynchronous
async def test_new_groups_or_a_rehash_close_no_socket(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, wire, running = await greeted(services)
        await services.administration.set_groups("ada", ("staff",), eve(services))
        owner = await services.accounts.by_id("ada")
        assert owner is not None
        await services.accounts.rehash(owner, "another hash")
        wire.say('{"type": "ping"}')
        await eventually(lambda: wire.said == ["accept", "hello", "pong"])
        wire.leave()
        await running
