"""One WebSocket below the network: what no well-behaved client does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.machine.account.commands import Disable
from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    NotAuthenticated,
    Overloaded,
    RecordRefused,
    SessionEnded,
    SessionNotFound,
    SurfaceFailed,
    TokenExpired,
    TransitionRefused,
)
from interlock.machine.machine import Command
from interlock.machine.session.commands import Data, Disconnect, Reauthenticate, Revoke, Touch
from interlock.machine.session.session import Session
from interlock.server.experience.sockets.closings import closing_for
from interlock.server.runtime.authenticator import Authentication
from interlock.server.runtime.connection_limits import ConnectionLimits
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.door import Recorded, commands
from interlock.server.surface.tickets import Ticket
from tests.support.asynchronous import asynchronous
from tests.support.forging import claims_of
from tests.support.running import eventually
from tests.support.wire import Wire, after_connect, events, greeted, log_in, services_in


@asynchronous
async def test_a_connection_from_hello_to_goodbye(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: wire.said == ["accept", "hello"])
        wire.say('{"type": "ping"}')
        await eventually(lambda: wire.said[-1] == "pong")
        wire.leave(1001)
        await running
        assert await events(services, session) == ["create", "authenticate", "connect", "disconnect"]
        last = (await services.sessions.history(session.session_id, 3, 1))[0].transition
        assert msgspec.to_builtins(last.data)["code"] == 1001
        assert len(services.connections) == 0


@pytest.mark.parametrize(
    ("what", "said", "recorded"),
    [
        ("revoked", ["transition", "close 4403 session ended: revoked"], ["revoke"]),
        ("logged in again", ["transition", "close 4408 token expired"], ["reauthenticate", "disconnect"]),
        ("draining", ["close 1001 draining"], ["disconnect"]),
    ],
)
@asynchronous
async def test_changes_between_connect_and_answer_are_sent_after_hello(
    tmp_path: Path, what: str, said: list[str], recorded: list[str]
) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        told: dict[str, Data] = {"revoked": Revoke("revoked"), "logged in again": Reauthenticate("ada", "password")}

        async def change() -> None:
            if what in told:
                await services.sessions.submit(session.session_id, *commands("ada", told[what]))
            services.draining = what == "draining"

        after_connect(services, change)
        wire = Wire(services, token)
        await wire.run()
        assert wire.said == ["accept", "hello", *said]
        assert await events(services, session) == ["create", "authenticate", "connect", *recorded]
        assert len(services.connections) == 0


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("revoked", "close 4403 session ended: revoked"),
        ("logged in again", "close 4408 token expired"),
        ("account disabled", "close 4403 session ended: account_disabled"),
        ("key gone", "close 4408 token expired"),
    ],
)
@asynchronous
async def test_changes_between_credential_and_connect_refuse_the_connect(tmp_path: Path, what: str, said: str) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        authenticator: Any = services.authenticator
        refuse_replaced = authenticator.refuse_replaced

        async def changed(*arguments: Any) -> None:
            await refuse_replaced(*arguments)
            if what == "account disabled":
                await services.accounts.ask("ada", "ops", Disable(None))
            elif what == "key gone":
                services.tokens.use(msgspec.structs.replace(services.keys, verifying={}))
            else:
                told = Revoke("revoked") if what == "revoked" else Reauthenticate("ada", "password")
                await services.sessions.submit(session.session_id, *commands("ada", told))

        authenticator.refuse_replaced = changed  # the last thing that is asked
        wire = Wire(services, token)
        await wire.run()
        assert wire.said == ["accept", said]
        assert "connect" not in await events(services, session)
        assert len(services.connections) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SurfaceFailed("the disk is gone"), "close 1011 internal error"),
        (SessionNotFound("x"), "close 1008 Session not found"),
    ],
    ids=["the log stops", "the session is gone"],
)
@asynchronous
async def test_a_connect_that_is_not_recorded_leaves_nothing_behind(
    tmp_path: Path, error: Exception, said: str
) -> None:
    async with services_in(tmp_path) as services:
        _, token = await log_in(services)

        async def refused(*_arguments: Any, **_named: Any) -> None:
            raise error

        sessions: Any = services.sessions
        sessions.submit = refused
        wire = Wire(services, token)
        await wire.run()
        assert wire.said == ["accept", said]
        assert len(services.connections) == services.connections.of_account("ada") == 0


@asynchronous
async def test_a_peer_gone_before_the_accept_leaves_nothing_behind(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)

        def gone() -> None:
            raise ConnectionResetError

        for credential in (token, None):
            wire = Wire(services, credential)
            wire.on_upgrade = gone
            await wire.run()
        assert await events(services, session) == ["create", "authenticate", "connect", "disconnect"]
        assert (await services.sessions.load(session.session_id)).state == "authenticated"
        assert len(services.connections) == 0


@asynchronous
async def test_messages_pushed_to_an_unread_socket_are_bounded(tmp_path: Path) -> None:
    async with services_in(tmp_path, send_timeout_s=30) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: wire.said == ["accept", "hello"])
        wire.writable = False
        await services.sessions.submit(session.session_id, *commands("ada", *[Touch()] * 400))
        await running
        assert wire.said == ["accept", "hello", "close 4413 slow consumer"]


@asynchronous
async def test_a_handshake_not_authenticated_in_time_is_closed_with_1013(
    tmp_path: Path,
) -> None:
    async with services_in(tmp_path, handshake_timeout_s=0.05) as services:

        async def never(ticket: str) -> Ticket:
            await asyncio.Event().wait()
            raise AssertionError(ticket)

        services.tickets.redeem = never  # type: ignore[method-assign]  # as if storage hung
        wire = Wire(services, None, subprotocols="interlock.v1, ticket.x")
        await wire.run()
        assert wire.said == ["accept", "close 1013 overloaded"]


@asynchronous
async def test_a_connection_limit_reached_during_authentication_applies(tmp_path: Path) -> None:
    async with services_in(tmp_path, connections_total=1) as services:
        session, token = await log_in(services)
        full = _FullLater()
        services.connection_limits = ConnectionLimits(
            services.sessions, services.authenticator, full, services.clock, services.settings
        )
        wire = Wire(services, token)
        await wire.run()
        assert wire.said == ["accept", "close 1013 overloaded"]
        assert await events(services, session) == ["create", "authenticate"], "and nothing was recorded"


class _FullLater(Connections):
    """Room at the door, none left inside."""

    looked = 0

    def __len__(self) -> int:
        self.looked += 1
        return self.looked - 1


@asynchronous
async def test_a_credential_that_expires_on_the_open_socket_closes_it(tmp_path: Path) -> None:
    # A token expires at a full second: it lives two to three.
    async with services_in(tmp_path, access_token_s=3) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        await wire.run()
        assert wire.said == ["accept", "hello", "close 4408 token expired"]
        assert (await events(services, session))[-1] == "disconnect"


@asynchronous
async def test_an_early_expiry_timer_is_set_again(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: wire.said == ["accept", "hello"])
        (listeners,) = services.connections._listeners.values()
        ((socket, _),) = listeners.values()
        socket._tick()  # type: ignore[attr-defined]  # called like by the event loop
        assert wire.said == ["accept", "hello"]
        wire.leave()
        await running


@asynchronous
async def test_a_new_token_on_the_open_socket_keeps_it_open(tmp_path: Path) -> None:
    async with services_in(tmp_path, access_token_s=4) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: wire.said == ["accept", "hello"])
        services.tokens.lifetime_s = 60
        later = services.tokens.access_token(session)
        wire.say(json.dumps({"type": "refresh", "access_token": later}))
        await eventually(lambda: wire.said[-1] == "refreshed")
        await eventually(lambda: services.clock.now_ms() > claims_of(token)["exp"] * 1000 + 100)
        assert not running.done()
        wire.leave()
        await running


@asynchronous
async def test_a_disconnect_refused_by_an_overloaded_log_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        submit = services.sessions.submit
        refusals = [Overloaded(retry_after_s=0), Overloaded(retry_after_s=0)]

        async def busy(session_id: str, *asked: Command, **named: Any) -> Recorded[Session]:
            if isinstance(asked[0].data, Disconnect) and refusals:
                raise refusals.pop()
            return await submit(session_id, *asked, **named)

        monkeypatch.setattr(services.sessions, "submit", busy)
        wire = Wire(services, token)
        wire.leave()
        await wire.run()
        assert refusals == []
        assert (await events(services, session))[-1] == "disconnect"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SessionNotFound("x"), 1008),
        (SessionEnded("idle"), 4403),
        (TokenExpired("x"), 4408),
        (CredentialMissing("x"), 4401),
        (CredentialInvalid("x"), 4401),
        (NotAuthenticated("x"), 4401),
        (TransitionRefused("connect", "created"), 4401),
        (TransitionRefused("connect", "connected", "below_connection_limit"), 4429),
        (TransitionRefused("connect", "connected", "alive"), 1011),
        (Overloaded(), 1013),
        (TimeoutError(), 1013),
        (SurfaceFailed("x"), 1011),
        (RecordRefused("x"), 1011),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_failure_has_its_close_code(error: Exception, code: int) -> None:
    assert closing_for(error).code == code


@asynchronous
async def test_a_new_token_whose_key_goes_during_its_check_closes_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket rested on another key then, so the loss of this one was no matter of its own."""
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        check = services.authenticator.by_access_token

        async def then_retired(token: str) -> Authentication:
            return msgspec.structs.replace(await check(token), kid="retired")

        monkeypatch.setattr(services.authenticator, "by_access_token", then_retired)
        wire.say(json.dumps({"type": "refresh", "access_token": services.tokens.access_token(session)}))
        await eventually(lambda: len(wire.said) > 2)
        assert wire.said[2:] == ["close 4408 token expired"]
        await running
