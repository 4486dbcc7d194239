"""The kits for back ends, in real servers: they serve live sessions only, and the end of one closes what it has open."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import httpx
import pytest
from websockets import ConnectionClosed
from websockets.asyncio.client import connect

from interlock.asgi.denials import DENIALS, Denial
from interlock.asgi.verifier import client_name
from interlock.server.experience.problem_kinds import problem_kinds
from interlock.server.guard.secrets import Secrets
from tests.clients.answers_of_others import KNOWN, TOKEN, other_server
from tests.clients.back_ends import back_end, ended, opened, works
from tests.support.client import Client, logged_in
from tests.support.relay import relay_to
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server
from tests.support.source import ROOT

PROGRAMS = {
    "python": (sys.executable, "-m", "tests.clients.echo"),
    "node": ("node", str(ROOT / "tests" / "javascript" / "echo.mjs")),
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the command of a back end that echoes, streams, and says who is there."""
    return PROGRAMS[request.param]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("asgi") / "data") as process:
        yield process


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@scenario()
async def test_sockets_of_an_application_close_when_their_session_ends(
    server: ServerProcess, program: Sequence[str]
) -> None:
    async with back_end(program, server.url, server) as port:
        await works(server, port)


@scenario()
async def test_a_socket_that_only_pushes_is_closed_too(server: ServerProcess, program: Sequence[str]) -> None:
    async with back_end(program, server.url, server) as port, await logged_in(server.url) as ada:
        headers = bearer(ada.access_token)
        async with connect(f"ws://127.0.0.1:{port}/deaf", additional_headers=headers, proxy=None) as socket:
            assert await socket.recv() == "tick"
            (await ada.request("POST", "/api/auth/logout")).raise_for_status()
            assert await ended(socket) == (4403, "session ended: logout")


@scenario()
async def test_a_request_is_served_to_the_holder_of_a_live_session(
    server: ServerProcess, program: Sequence[str]
) -> None:
    async with (
        back_end(program, server.url, server) as port,
        await logged_in(server.url) as ada,
        Client(server.url) as visitor,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        subject = (await ada.session())["subject"]
        token = bearer(ada.access_token)
        assert (await http.get("/", headers=token)).text == subject
        await visitor.begin()
        refusals = {
            "credential-missing": (401, {}),
            "token-expired": (401, bearer("made.up.token")),
            "login-required": (403, bearer(visitor.access_token)),
        }
        for name, (status, headers) in refusals.items():
            refused = await http.get("/", headers=headers)
            assert (refused.status_code, refused.json()["type"]) == (status, f"urn:interlock:problem:{name}")
        (await ada.request("POST", "/api/auth/logout")).raise_for_status()
        # The token was found good before: the end empties the cache long before its entry is too old.
        await eventually(lambda: refused_now(http, token), within_s=5)


@scenario()
async def test_a_response_that_streams_ends_with_the_session(server: ServerProcess, program: Sequence[str]) -> None:
    async with (
        back_end(program, server.url, server) as port,
        await logged_in(server.url) as ada,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        http.stream("GET", "/stream", headers=bearer(ada.access_token)) as stream,
    ):
        parts = stream.aiter_bytes()
        assert await anext(parts)
        (await ada.request("POST", "/api/auth/logout")).raise_for_status()
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in parts:
                pass


@pytest.mark.parametrize("broken", ["before the event", "within the event"])
@scenario()
async def test_an_end_that_the_stream_missed_is_heard_of_later(
    server: ServerProcess, program: Sequence[str], broken: str
) -> None:
    async with (
        relay_to(server.url) as relay,
        back_end(program, relay.url, server) as port,
        await logged_in(server.url) as ada,
    ):
        socket = await opened(port, ada.access_token)
        await socket.recv()
        if broken == "within the event":
            relay.cut_behind(b"\r\ndata: ")
        else:
            relay.freeze()
            relay.cut()
        (await ada.request("POST", "/api/auth/logout")).raise_for_status()
        relay.thaw()
        assert await ended(socket) == (4403, "session ended: logout")


@scenario()
async def test_while_interlock_is_silent_nothing_is_served(
    server: ServerProcess, program: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALE_AFTER_S", "3")
    async with (
        relay_to(server.url) as relay,
        back_end(program, relay.url, server) as port,
        await logged_in(server.url) as ada,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
    ):
        socket = await opened(port, ada.access_token)
        await socket.recv()
        relay.freeze()
        assert await ended(socket) == (1013, "overloaded")
        refused = await http.get("/", headers=bearer(ada.access_token))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert await ended(await opened(port, ada.access_token)) == (1013, "overloaded")
        relay.thaw()

        await eventually(lambda: served(http, ada.access_token))


@scenario()
async def test_a_page_in_the_place_of_the_stream_is_no_word_of_interlock(
    server: ServerProcess, program: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALE_AFTER_S", "3")
    async with other_server() as other, back_end(program, other.url, server) as port:
        socket = await opened(port, TOKEN)
        assert await socket.recv() == "hello acc_1"
        other.media_type, other.text = "text/html", "<p>Back soon.</p>\n\n"
        other.cut()
        assert await ended(socket) == (1013, "overloaded"), "nobody says any more which sessions end"


@scenario()
async def test_a_message_that_nobody_can_read_ends_what_is_open(server: ServerProcess, program: Sequence[str]) -> None:
    async with other_server() as other, back_end(program, other.url, server) as port:
        socket = await opened(port, TOKEN)
        assert await socket.recv() == "hello acc_1"
        other.text = 'id: 7\ndata: {"of": "a later version"}\n\n'
        assert await ended(socket) == (1013, "overloaded"), "it may have been an end"
        other.text = ":\n\n"
        await eventually(lambda: greeted(port))


@scenario()
async def test_at_most_64_made_up_tokens_are_asked_about_at_once(server: ServerProcess, program: Sequence[str]) -> None:
    async with (
        other_server() as other,
        back_end(program, other.url, server) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=httpx.Limits(), timeout=60) as http,
    ):
        other.answers.clear()
        asking = [asyncio.ensure_future(http.get("/", headers=bearer(f"{TOKEN}{n}"))) for n in range(150)]
        await eventually(lambda: other.most_waiting >= 64 and sum(each.done() for each in asking) >= 86)
        other.answers.set()
        refused = [each for each in await asyncio.gather(*asking) if each.status_code == 503]
        assert other.most_waiting == 64
        assert len(refused) >= 86


@scenario()
async def test_a_back_end_outlives_an_introspection_that_says_nothing(
    server: ServerProcess, program: Sequence[str]
) -> None:
    async with (
        other_server() as other,
        back_end(program, other.url, server) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for other.known in (None, [], "yes", {"active": True, "token_type": "Bearer", "sub": None}):
            assert (await http.get("/", headers=bearer(TOKEN))).status_code == 503
        other.known = KNOWN
        assert (await http.get("/", headers=bearer(TOKEN))).text == "acc_1"


@scenario()
async def test_a_token_nested_without_end_is_refused_like_any_other(
    server: ServerProcess, program: Sequence[str]
) -> None:
    deep = base64.urlsafe_b64encode(b'{"x":' + b"[" * 5_000).decode().rstrip("=")
    async with (
        back_end(program, server.url, server) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/", headers=bearer(f"a.{deep}.b"))).status_code == 401


async def greeted(port: int) -> bool:
    socket = await opened(port, TOKEN)
    with suppress(ConnectionClosed):
        return await socket.recv() == "hello acc_1"
    return False


async def refused_now(http: httpx.AsyncClient, token: dict[str, str]) -> bool:
    return (await http.get("/", headers=token)).status_code == httpx.codes.UNAUTHORIZED


async def served(http: httpx.AsyncClient, token: str) -> bool:
    return (await http.get("/", headers=bearer(token))).is_success


@pytest.mark.parametrize("denial", DENIALS, ids=lambda denial: denial.problem)
def test_a_refusal_says_what_interlock_would_say(denial: Denial) -> None:
    kinds = {(kind.name, kind.status, kind.recovery) for kind in problem_kinds()}
    assert (denial.problem, denial.status, denial.recovery) in kinds


def test_the_name_of_a_client_is_read_from_its_secret(server: ServerProcess) -> None:
    for name in ("shop", "a-b", "x"):
        assert client_name(Secrets(server.data / "keys", "client").create(name, 1)) == name
