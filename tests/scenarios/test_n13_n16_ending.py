"""N13 to N16: ends take effect everywhere and in time, nothing else ends a session, and nobody retries for ever."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email, rest_of
from tests.support.log import histories, projection, record_count, verify, write_lock
from tests.support.peer import Peer
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

LATE_S = 10
"""How late an end may come on a busy machine."""


async def same_account(home: Client, count: int) -> list[Client]:
    """Return ``count`` sessions of one new account, each with its own user agent."""
    (await home.register(email := new_email())).raise_for_status()
    tabs = [home.sibling() for _ in range(count)]
    for tab in tabs:
        (await tab.log_in(email)).raise_for_status()
    return tabs


async def open_sockets(client: Client, count: int) -> list[ClientConnection]:
    """Open ``count`` sockets of ``client``'s session, and read their greetings."""
    sockets = [await client.connect() for _ in range(count)]
    for socket in sockets:
        await hello(socket)
    return sockets


async def end(way: str, home: Client, tab: Client) -> str:
    """End ``tab``'s session, and return the recorded reason."""
    body = {"current_password": PASSWORD, "new_password": PASSWORD[::-1]}
    match way:
        case "one":
            answer, reason = await home.request("DELETE", f"/api/sessions/{tab.session_id}"), "revoked"
        case "others":
            answer, reason = await home.request("DELETE", "/api/sessions"), "revoked"
        case "own":
            answer, reason = await tab.request("DELETE", f"/api/sessions/{tab.session_id}"), "revoked"
        case "password":
            answer, reason = await home.request("POST", "/api/auth/password", json=body), "password_changed"
        case _:
            answer, reason = await tab.request("POST", "/api/auth/logout"), "logout"
    assert answer.is_success
    return reason


@pytest.mark.asvs("7.4.1", "7.4.3", "8.3.2", "10.4.9")
@pytest.mark.checks("revocation_fence", "expired_closes")
@pytest.mark.parametrize("way", ["one", "others", "own", "password", "logout"])
@scenario()
async def test_n13_an_ended_session_holds_no_socket(server: ServerProcess, way: str) -> None:
    """A revoked session's socket stays open, or executes one more intent after the revocation was acknowledged: never again.

    However the session ended, each socket receives the last transition, then 4403, and later messages are not answered.
    A change of the password closes the sockets before the ends of their sessions are recorded, so there is no transition.
    Of intents: ``test_n13_a_revocation_racing_intents_is_a_fence``.
    """
    async with Client(server.url) as first:
        home, tab = await same_account(first, 2)
        sockets = await open_sockets(tab, 3)
        reason = await end(way, home, tab)
        await asyncio.gather(*(socket.send('{"type": "ping"}') for socket in sockets), return_exceptions=True)
        for socket in sockets:
            heard = await rest_of(socket)
            if way != "password":
                last = heard[-1]
                assert (last["event"], last["target"], last["data"]) == ("revoke", "expired", {"reason": reason})
            assert "pong" not in {message["type"] for message in heard}
            assert (socket.close_code, socket.close_reason) == (4403, f"session ended: {reason}")
        stored = projection(server.data)[tab.session_id]
        assert (stored["state"], stored["reason"], stored["connections"]) == ("expired", reason, [])
        assert histories(server.data)[tab.session_id][-1]["event"] == "revoke"
        async with tab.connect() as again:
            assert await closed(again) == (4403, f"session ended: {reason}")


@pytest.mark.slow
@pytest.mark.parametrize("revoked", [True, False])
@scenario()
async def test_n13_a_client_that_reads_nothing_is_cut(data: Path, *, revoked: bool) -> None:
    """A revoked session's socket stays open: never again. Not even one that sends, reads nothing and answers no close.

    Without a revocation it is a slow consumer: cut after the send timeout, because 4413 would not reach it; it reconnects.
    """
    with running_server(data, send_timeout_s=1) as server:
        async with Client(server.url) as first:
            home, tab = await same_account(first, 2)
            async with await Peer.open(server.socket_url, tab.bearer) as peer:

                async def talk() -> None:
                    with suppress(ConnectionError):
                        while True:
                            peer.writer.write(Peer.frame(1, b'{"type":"ping"}') * 1000)
                            await peer.writer.drain()

                talking = asyncio.create_task(talk())
                if revoked:
                    assert (await home.request("DELETE", f"/api/sessions/{tab.session_id}")).status_code == 204
                    assert not projection(data)[tab.session_id]["connections"]
                await asyncio.wait_for(talking, 60)
            await eventually(lambda: not projection(data)[tab.session_id]["connections"])
            async with tab.connect() as socket:
                if revoked:
                    assert (await closed(socket))[0] == 4403
                else:
                    assert (await hello(socket))["state"] == "connected"


@pytest.mark.asvs("7.3.1", "7.3.2")
@pytest.mark.checks("expires_or_renewed")
@scenario()
async def test_n13_a_session_ends_at_its_deadline(data: Path) -> None:
    """An idle session's socket closes with 4403 at the deadline, never before. How late: bench/expiry.py."""
    with running_server(data, idle_timeout_s=3, absolute_timeout_s=4.5) as server:
        async with await logged_in(server.url) as client:
            deadlines = await client.session()
            async with client.connect() as socket:
                assert await closed(socket) == (4403, "session ended: idle")
            assert -0.005 < time.time() - seconds(deadlines["idle_expires_at"]) < LATE_S
            # Activity moves the idle deadline, not the absolute one.
            await client.begin()
            await client.register(email := new_email())
            await client.log_in(email)
            last = seconds((await client.session())["expires_at"])
            async with client.connect() as socket:
                ended = asyncio.create_task(closed(socket))
                while (await client.request("GET", "/api/session")).status_code == 200:
                    await asyncio.wait({ended}, timeout=0.1)
                assert await ended == (4403, "session ended: absolute")
            assert -0.005 < time.time() - last < LATE_S
            answer = await client.request("GET", "/api/session")
            assert (answer.status_code, answer.json()["reason"]) == (401, "absolute")
        assert [history[-1]["event"] for history in histories(data).values()] == ["expire", "expire"]
        verify(data)


def seconds(at: str) -> float:
    """Return ``at`` in seconds since the Unix epoch."""
    return datetime.fromisoformat(at).timestamp()


async def by_ticket(client: Client) -> dict[str, Any]:
    """Return the connect parameters with a ticket."""
    ticket = (await client.request("POST", "/api/session/ticket")).json()["ticket"]
    return {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{ticket}"]}


async def by_bearer(_client: Client) -> dict[str, Any]:
    """Return the connect parameters with a bearer token."""
    return {}


@pytest.mark.slow
@scenario()
async def test_n14_a_token_that_expires_on_an_open_socket_is_noticed(data: Path) -> None:
    """A token that expires on an open socket is never noticed: never again. Whatever credential opened the socket."""
    with running_server(data, access_token_s=2) as server:
        async with await logged_in(server.url) as client:

            async def noticed(how: Any) -> None:
                async with client.connect(**await how(client)) as socket:
                    assert await closed(socket) == (4408, "token expired")

            expires = jwt.decode(client.access_token, options={"verify_signature": False})["exp"]
            await asyncio.gather(*map(noticed, (by_bearer, by_ticket)))
            assert -0.005 < time.time() - expires < LATE_S
            async with client.connect() as socket:
                assert await closed(socket) == (4408, "token expired")
            # The declared recovery.
            assert (await client.refresh()).status_code == 200
            async with client.connect() as socket:
                assert (await hello(socket))["state"] == "connected"


@pytest.mark.slow
@scenario()
async def test_n14_a_refresh_in_place_keeps_the_socket_open(data: Path) -> None:
    """Conversely, a newer token in time keeps the socket open, again and again."""
    with running_server(data, access_token_s=5) as server:
        async with await logged_in(server.url) as client, client.connect() as socket:
            greeting = await hello(socket)
            for _ in range(4):
                expires = jwt.decode(client.access_token, options={"verify_signature": False})["exp"]
                assert (await client.refresh()).status_code == 200
                await socket.send(json.dumps({"type": "refresh", "access_token": client.access_token}))
                pushed, refreshed = [json.loads(await socket.recv()) for _ in range(2)]
                assert (pushed["event"], refreshed["type"]) == ("refresh", "refreshed")
                assert seconds(refreshed["expires_at"]) >= expires
                await asyncio.sleep(2)
            assert greeting["connection_id"] in str(projection(data)[client.session_id]["connections"])
            assert await closed(socket) == (4408, "token expired")


@pytest.mark.asvs("10.3.2")
@scenario()
async def test_n14_only_the_sessions_own_token_keeps_a_socket_open(server: ServerProcess) -> None:
    """Refreshing in place takes a valid, current token of the same session; any other ends the connection."""
    async with await logged_in(server.url) as client, await logged_in(server.url) as other:
        for token, code in (
            (other.access_token, 4401),
            (client.refresh_token, 4401),
            ("made up", 4401),
            ("", 4401),
        ):
            async with client.connect() as socket:
                await socket.send(json.dumps({"type": "refresh", "access_token": token}))
                assert (await closed(socket))[0] == code
        (tab,) = await same_account(client, 1)
        before = tab.access_token
        await tab.log_in(tab.email)
        async with tab.connect() as socket:
            await socket.send(json.dumps({"type": "refresh", "access_token": before}))
            assert await closed(socket) == (4408, "token expired")


@scenario()
async def test_n14_every_message_of_a_burst_is_answered(server: ServerProcess) -> None:
    """A fast sender does not lose its socket: a client that reads gets every answer, in order."""
    async with await logged_in(server.url) as client, client.connect() as socket:
        await hello(socket)
        socket.transport.write(Peer.frame(1, b'{"type":"ping"}') * 3000)
        answers = [json.loads(await socket.recv()) for _ in range(3000)]
        assert all(answer == {"type": "pong"} for answer in answers)


@pytest.mark.checks("rotation")
@pytest.mark.slow
@scenario()
async def test_n15_two_tabs_that_refresh_at_once_stay_logged_in(data: Path) -> None:
    """Two tabs refreshing at once log the user out: never again. 500 times, whichever answer sets the cookie last."""
    with running_server(data) as server:
        async with await logged_in(server.url) as one:
            two = one.sibling()
            sockets = await open_sockets(one, 2)
            chain = [one.refresh_token]
            for turn in range(500):
                two.tokens = one.tokens
                answers = await asyncio.gather(one.refresh(), two.refresh())
                assert [answer.status_code for answer in answers] == [200, 200]
                assert one.refresh_token != two.refresh_token
                if turn % 2:
                    one.tokens = two.tokens
                assert one.refresh_token not in chain
                chain.append(one.refresh_token)
                if turn % 50 == 0:  # a response is lost
                    assert (await two.refresh(chain[-2])).status_code == 200
            assert (await one.session())["connections"] == 2
            history = histories(data)[one.session_id]
            assert [record["event"] for record in history].count("refresh") == 1010

            # A made-up successor belongs to nobody, and is no sign of theft.
            session_id, epoch, rotation, mac = one.refresh_token.split(".")
            made_up = f"{session_id}.{epoch}.{int(rotation) + 9}.{mac}"
            assert (await one.sibling().refresh(made_up)).status_code == 401
            for socket in sockets:
                await socket.close()
        verify(data)


@scenario()
async def test_n15_reuse_of_an_old_token_ends_the_session_everywhere(data: Path) -> None:
    """Two parties hold it."""
    with running_server(data, refresh_grace_s=0) as server:
        async with await logged_in(server.url) as one:
            sockets = await open_sockets(one, 2)
            chain = [one.refresh_token]
            for _ in range(10):
                (await one.refresh()).raise_for_status()
                chain.append(one.refresh_token)
            history = histories(data)[one.session_id]
            stolen = await one.sibling().refresh(chain[5])
            assert (stolen.status_code, stolen.json()["reason"]) == (401, "token_reuse")
            for socket in sockets:
                assert await closed(socket) == (4403, "session ended: token_reuse")
            for token in (chain[-1], chain[5], chain[0]):
                assert (await one.sibling().refresh(token)).status_code == 401
            assert (await one.request("GET", "/api/session")).json()["reason"] == "token_reuse"
            assert len(histories(data)[one.session_id]) == len(history) + 1
        verify(data)


@scenario()
async def test_n15_two_browser_tabs_share_their_cookie(server: ServerProcess) -> None:
    """The same with cookies, as in browsers: both tabs continue with whichever answer comes last."""
    page = {"Origin": server.url}
    async with Client(server.url) as client:
        await client.register(email := new_email())
        answer = await client.http.post("/api/auth/login", json={"email": email, "password": PASSWORD}, headers=page)
        assert "refresh_token" not in answer.json()
        cookie = answer.headers["set-cookie"].partition(";")[0]
        for turn in range(20):
            headers = {**page, "Cookie": cookie}
            answers = await asyncio.gather(*(client.http.post("/api/auth/refresh", headers=headers) for _ in range(3)))
            assert {answer.status_code for answer in answers} == {200}
            cookie = answers[turn % 3].headers["set-cookie"].partition(";")[0]


@scenario()
async def test_n15_concurrent_reuses_of_a_stolen_token_get_the_same_answer(data: Path) -> None:
    """Concurrent reuses end the session once, and every caller learns the reason."""
    with running_server(data, refresh_grace_s=0) as server:
        async with await logged_in(server.url) as client:
            old = client.refresh_token
            await client.refresh()
            await client.refresh()
            with write_lock(data):
                asked = [asyncio.create_task(client.sibling().refresh(old)) for _ in range(4)]
                await asyncio.wait(asked, timeout=0.3)
            for answer in await asyncio.gather(*asked):
                assert (answer.status_code, answer.json().get("reason")) == (401, "token_reuse"), answer.text


@pytest.mark.asvs("7.4.1", "10.4.5")
@scenario()
async def test_n16_a_dead_token_always_gets_its_recovery_and_costs_nothing(data: Path) -> None:
    """A client retries a dead token for ever: never again. Each answer is 401 with a recovery; retries write nothing."""
    with running_server(data, refresh_grace_s=0) as server:
        async with Client(server.url) as first:
            home, ended, superseded, reused = await same_account(first, 4)
            await ended.request("POST", "/api/auth/logout")
            before_login = dict(superseded.tokens)
            await superseded.log_in(superseded.email)
            spent = reused.refresh_token
            await reused.refresh()
            await reused.refresh()
            assert (await reused.sibling().refresh(spent)).status_code == 401
            ticket = (await by_ticket(home))["subprotocols"]
            async with home.connect(additional_headers={}, subprotocols=ticket) as socket:
                await hello(socket)
            await eventually(lambda: not projection(data)[home.session_id]["connections"])

            before = record_count(data)
            for _ in range(20):
                for token, name, code in (
                    ("made.up.token", "credential-invalid", 4401),
                    (before_login["access_token"], "token-expired", 4408),
                    (ended.access_token, "session-ended", 4403),
                    (reused.access_token, "session-ended", 4403),
                ):
                    bearer = {"Authorization": f"Bearer {token}"}
                    answer = await first.http.get("/api/session", headers=bearer)
                    assert (answer.status_code, answer.json()["type"]) == (401, f"urn:interlock:problem:{name}")
                    async with first.connect(additional_headers=bearer) as socket:
                        assert (await closed(socket))[0] == code
                for token in (ended.refresh_token, before_login["refresh_token"], spent, reused.refresh_token):
                    answer = await first.sibling().refresh(token)
                    assert answer.status_code == 401
                    assert answer.json()["recovery"] in {"log_in", "start_session"}
                async with first.connect(additional_headers={}, subprotocols=ticket) as socket:
                    assert (await closed(socket))[0] == 4401
            assert record_count(data) == before
            # Nothing else was affected.
            assert (await home.session())["state"] == (await superseded.session())["state"] == "authenticated"
