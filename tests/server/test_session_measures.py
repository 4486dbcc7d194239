"""Requirements of OWASP ASVS on sessions and the rights that depend on them, over the real server."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

import httpx
import jwt
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, hello, logged_in, new_email
from tests.support.server import ServerProcess
from tests.support.stored import stored


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("type", "").rpartition(":")[2]


def document(server: ServerProcess) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().json()
    return answer


@pytest.mark.asvs("2.3.1")
@asynchronous
async def test_a_socket_opens_only_after_a_login(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        await client.begin()
        page = {"Cookie": f"__Host-interlock={client.refresh_token}", "Origin": server.url}
        for headers in (client.bearer, page):
            async with client.connect(additional_headers=headers) as socket:
                assert await last_word(socket) == 4401
        assert (await client.session())["version"] == 1
        await client.register(email := new_email())
        (await client.log_in(email)).raise_for_status()
        async with client.connect() as socket:
            assert await last_word(socket) == "pong"


@pytest.mark.asvs("7.1.2")
@asynchronous
async def test_a_login_does_not_end_the_accounts_other_sessions(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        clients = [client, *(client.sibling() for _ in range(20))]
        for each in clients[1:]:
            (await each.log_in(client.email)).raise_for_status()
        answers = [await each.request("GET", "/api/session") for each in clients]
        assert [answer.status_code for answer in answers] == [200] * len(clients)
        listed = (await client.request("GET", "/api/sessions")).json()
        assert [view["session_id"] for view in listed] == [each.session_id for each in reversed(clients)]


@pytest.mark.asvs("7.2.2")
@asynchronous
async def test_each_login_and_refresh_issues_new_tokens(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        given = [client.tokens]
        for _ in range(3):
            (await client.refresh()).raise_for_status()
            given.append(client.tokens)
            (await client.log_in(client.email)).raise_for_status()
            given.append(client.tokens)
    assert len({tokens["refresh_token"] for tokens in given}) == len(given)
    # Not the texts: signatures of the same claims differ each time.
    names = {jwt.decode(tokens["access_token"], options={"verify_signature": False})["jti"] for tokens in given}
    assert len(names) == len(given)


@pytest.mark.asvs("7.2.3")
@asynchronous
async def test_refresh_tokens_have_independent_256_bit_macs(server: ServerProcess) -> None:
    """Neither on those of other sessions, nor on the same session's next ones."""
    async with Client(server.url) as first:
        clients = [first, *(first.sibling() for _ in range(49))]
        macs = []
        for change in (Client.begin, *[Client.refresh] * 3):
            await asyncio.gather(*(change(client) for client in clients))
            macs += [client.refresh_token.rpartition(".")[2] for client in clients]
    assert len(set(macs)) == 200
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", mac) for mac in macs)
    assert all(len({mac[place] for mac in macs}) > 30 for place in range(42))


async def last_word(socket: ClientConnection) -> str | int | None:
    """Send a message. Return the close code, or ``pong`` if it was answered."""
    with suppress(websockets.ConnectionClosed):
        await socket.send('{"type": "ping"}')
        while json.loads(await socket.recv())["type"] != "pong":
            pass
        return "pong"
    return socket.close_code


class Held:
    """A session's credentials: its tokens, a ticket and an open socket."""

    def __init__(self, client: Client, ticket: str, socket: ClientConnection) -> None:
        self.client = client
        self.ticket = ticket
        self.socket = socket

    @classmethod
    async def of(cls, client: Client) -> Held:
        ticket = (await client.request("POST", "/api/session/ticket")).raise_for_status().json()["ticket"]
        socket = await client.connect()
        await hello(socket)
        copy = client.sibling()
        copy.tokens = client.tokens
        return cls(copy, ticket, socket)

    async def opens_nothing(self, name: str, refresh: str, code: int) -> None:
        """Check that it opens nothing, at once and without waiting."""
        answer, word = await asyncio.gather(self.client.request("GET", "/api/session"), last_word(self.socket))
        assert answer.status_code == 401
        assert problem(answer) == (401, name)
        assert word == code, "the socket that was open"
        assert problem(await self.client.refresh()) == (401, refresh)
        for arguments in (
            {},
            {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{self.ticket}"]},
        ):
            async with self.client.connect(**arguments) as again:
                assert await last_word(again) == code


@pytest.mark.asvs("7.2.4", "8.3.2")
@asynchronous
async def test_a_login_is_effective_before_it_is_answered(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        held = await Held.of(client)
        (await client.log_in(client.email)).raise_for_status()
        await held.opens_nothing("token-expired", "credential-invalid", 4408)
        assert (await client.session())["session_id"] == held.client.session_id


@pytest.mark.asvs("7.4.1", "8.3.2")
@pytest.mark.parametrize("path", ["/api/auth/logout", "/api/auth/logout by cookie", "/api/sessions"])
@asynchronous
async def test_a_sessions_end_is_effective_before_it_is_answered(server: ServerProcess, path: str) -> None:
    async with await logged_in(server.url) as client:
        held, other = await Held.of(client), client.sibling()
        (await other.log_in(client.email)).raise_for_status()
        match path:
            case "/api/auth/logout":
                answer = await client.request("POST", path)
            case "/api/sessions":
                answer = await other.request("DELETE", path)
            case _:
                page = {"Cookie": f"__Host-interlock={client.refresh_token}", "Origin": server.url}
                answer = await client.http.post("/api/auth/logout", headers=page)
        assert answer.is_success
        await held.opens_nothing("session-ended", "session-ended", 4403)
        await other.session()


@pytest.mark.asvs("7.5.1")
def test_an_accounts_identifiers_never_change(
    server: ServerProcess,
) -> None:
    described = document(server)
    taking = {
        path
        for path, item in described["paths"].items()
        for operation in item.values()
        if '"email"' in json.dumps(body_of(operation, described))
    }
    assert taking == {"/api/auth/register", "/api/auth/login", "/api/auth/reset"}


def body_of(operation: dict[str, Any], described: dict[str, Any]) -> list[Any]:
    """The schemas of what ``operation`` takes as its body."""
    names = re.findall(r"#/components/schemas/(\w+)", json.dumps(operation.get("requestBody", {})))
    return [described["components"]["schemas"][name] for name in names]


@pytest.mark.asvs("7.6.2")
@asynchronous
async def test_no_page_load_and_no_form_can_log_in(server: ServerProcess) -> None:
    """Every GET, with and without a password in the URL; and a form with the password."""
    email = new_email()
    login = {"email": email, "password": PASSWORD}
    async with Client(server.url) as client:
        (await client.register(email)).raise_for_status()
        before = stored(server.data)
        for path, item in document(server)["paths"].items():
            for asked in ({}, login) if "get" in item and not path.endswith("/stream") else ():
                answer = await client.http.get(re.sub(r"\{.*?\}", "nobody", path), params=asked)
                assert "access_token" not in answer.text
                assert "set-cookie" not in answer.headers
        for path in ("/api/auth/login", "/api/auth/exchange", "/api/auth/register", "/api/auth/refresh"):
            assert (await client.http.get(path, params=login)).status_code == 405
        assert problem(await client.http.post("/api/auth/login", params=login)) == (400, "bad-request")
        assert problem(await client.http.post("/api/auth/login")) == (401, "credential-missing")
        assert problem(await client.http.post("/api/auth/login", data=login)) == (415, "unsupported-media-type")
        assert stored(server.data) == before
        (await client.log_in(email)).raise_for_status()


@pytest.mark.asvs("8.3.1")
@asynchronous
async def test_identity_headers_of_a_client_are_ignored(server: ServerProcess) -> None:
    """Not even in the headers with which Interlock itself tells a proxy who is calling."""
    async with await logged_in(server.url) as victim, Client(server.url) as client:
        await client.begin()
        own, view = client.session_id, await victim.session()
        claimed = {
            "Remote-User": view["subject"],
            "Remote-Groups": "admin",
            "X-Session-Id": victim.session_id,
            "X-Session-State": "authenticated",
            "X-Forwarded-User": view["subject"],
            "Cookie": f"session_id={victim.session_id}; __Host-interlock={victim.session_id}",
        }
        query = {"session_id": victim.session_id, "subject": view["subject"], "access_token": victim.access_token}
        for path in ("/api/session", "/api/sessions", "/api/admin/sessions", "/api/forward-auth"):
            for asked in ({}, query):
                answer = await client.http.get(path, headers=claimed, params=asked)
                refused = {400} if asked and path != "/api/forward-auth" else {401, 403}
                assert answer.status_code in refused, path
                assert victim.session_id not in answer.text
        for path in ("/api/session", "/api/sessions"):
            assert (await client.request("GET", path, headers=claimed, params=query)).status_code == 400
            answer = await client.request("GET", path, headers=claimed)
            assert own in answer.text, "who shows a token of its own is who the token says"
            assert victim.session_id not in answer.text
        answer = await client.request("POST", "/api/session/ticket", headers=claimed)
        assert problem(answer) == (403, "login-required")
        assert await victim.session() == view
