"""The browser client in a real Chromium, against a real server, with a network that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from tests.support.browser import Browser, Tab, chromium
from tests.support.client import PASSWORD, Client, new_email
from tests.support.log import executions, histories, verify
from tests.support.metrics import log_rows, whole_log
from tests.support.relay import Relay, relay_to
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server
from tests.support.talkers import REALM

TABS: Final = 5

OPEN: Final = """
    const { open } = await import("/client/interlock.js");
    globalThis.visitor = await open();
    globalThis.downs = 0;
    return visitor.session && [visitor.session.id, visitor.session.state];
"""
LOGIN: Final = """
    if (fresh) await visitor.register(account);
    return (await visitor.login(account)).id;
"""
CONNECT: Final = """
    globalThis.socket = await visitor.session.connect();
    socket.addEventListener("down", () => downs++);
    visitor.session.ended.then((end) => { globalThis.end = end; });
    return visitor.session.state;
"""
COUNT: Final = """
    globalThis.run = socket.intent("talk.count", { to, pause_s: pause });
    globalThis.parts = [];
    globalThis.counted = (async () => { for await (const part of run.progress) parts.push(part); })();
    return (await run.accepted).execution_id;
"""
CALLS: Final = """
    const { session } = visitor, seen = {};
    const problem = (wait) => wait.then(() => "none", ({ type, name }) => (type ?? name).split(":").pop());
    seen.account = (await session.account()).email;
    seen.fetched = (await (await session.fetch("/api/account")).json()).email;
    seen.token = (await session.token()).split(".").length;
    const { fetch } = globalThis;
    for (const status of [200, 404]) {
        const headers = { "Content-Type": "text/html" };
        globalThis.fetch = async () => new Response("<p>a page of a proxy</p>", { status, headers });
        seen[status] = await session.account().then(() => "none", ({ recovery, status }) => [recovery, status]);
    }
    globalThis.fetch = fetch;
    seen.exists = await problem(visitor.register(account));
    seen.identity = await problem(visitor.exchange({ id_token: "made.up.token" }));
    seen.unknown = await problem(socket.intent("talk.unknown").outcome);
    seen.large = await problem(socket.intent("talk.count", { to: 1, text: "x".repeat(70000) }).accepted);
    const waits = socket.intent("talk.wait");
    for await (const part of waits.progress) { seen.begun = part; waits.cancel(); }
    seen.cancelled = (await waits.outcome).reason;
    const stop = new AbortController(), { signal } = stop, stopped = socket.intent("talk.wait", {}, { signal });
    await stopped.accepted;
    stop.abort();
    seen.aborted = await Promise.all([
        stopped.outcome, (async () => { for await (const part of stopped.progress); })(), session.connect({ signal }),
        session.account({ signal }), visitor.login(account, { signal }),
    ].map(problem));
    await session.changePassword({ current_password: account.password, new_password: changed });
    seen.others = (await session.endOthers()).ended;
    seen.sessions = (await session.sessions()).map((each) => each.session_id);
    await socket.intent("talk.count", { to: 1 }).outcome;
    seen.same = visitor.session === session && seen.sessions[0] === session.id && (await session.connect()) === socket;
    await session.logout();
    seen.over = await problem(session.account());
    seen.disconnected = await problem(socket.intent("talk.count").outcome);
    return seen;
"""
COUNTED: Final = "await counted; return [parts, (await run.outcome).state, (await run.outcome).result, run.attempt];"


class Site(msgspec.Struct):
    """A browser before a server, with a network between them."""

    server: ServerProcess
    network: Relay
    browser: Browser
    account: dict[str, str]

    async def tab(self) -> Tab:
        """Open a tab that has loaded the client."""
        tab = await self.browser.tab()
        await self.visit(tab)
        return tab

    async def visit(self, tab: Tab) -> Any:
        """Load the page, and return the session that the client finds."""
        await tab.go(f"{self.network.url}/")
        return await tab.run(OPEN)

    async def log_in(self, tab: Tab, *, fresh: bool = True) -> str:
        """Log in in ``tab`` and return the session's id."""
        return str(await tab.run(LOGIN, account=self.account, fresh=fresh))


@asynccontextmanager
async def site(folder: Path, **settings: Any) -> AsyncIterator[Site]:
    """Run a server with a realm that emits numbers, and a browser."""
    with running_server(folder / "data", realm=REALM, log_json=True, access_log=True, **settings) as server:
        async with relay_to(server.url) as network, chromium(folder) as browser:
            yield Site(server, network, browser, {"email": new_email(), "password": PASSWORD})


def handshakes(server: ServerProcess) -> int:
    """Return how many WebSocket handshakes the server has answered, refused ones included."""
    whole_log(server)
    return sum(row["event"] == "socket.opened" or row.get("path") == "/api/connect" for row in log_rows(server))


@scenario(300)
async def test_a_visit_from_the_first_page_to_the_logout_in_another_tab(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first, second = await here.tab(), await here.tab()
        waiting = asyncio.create_task(second.run("return (await visitor.loggedIn()).id;"))
        assert await first.run("return typeof visitor.connect;") == "undefined"
        assert handshakes(here.server) == 0
        session_id = await here.log_in(first)
        assert await waiting == session_id, "the other tab hears of the login"
        assert handshakes(here.server) == 0
        assert [await tab.run(CONNECT) for tab in (first, second)] == ["connected"] * 2
        assert handshakes(here.server) == 2

        await first.run(COUNT, to=40, pause=0.05)
        await eventually(lambda: first.run("return parts.length > 3;"))
        here.network.cut()
        assert await first.run(COUNTED) == [[*range(1, 41)], "succeeded", {"last": 40}, 1]
        assert await first.run("return downs;") == 1
        assert len(executions(here.server.data)) == 1

        await first.run("return visitor.session.logout();")
        for tab in (first, second):
            await eventually(partial(tab.run, "return globalThis.end?.reason === 'logout';"))
            assert await tab.run("return [visitor.session, (await socket.closed).reason];") == [None, "logout"]
        made = handshakes(here.server)
        assert await here.visit(second) is None
        assert handshakes(here.server) == made, "nobody is logged in, so nothing connects"

        again = await here.log_in(first, fresh=False)
        assert again != session_id
        assert await first.run(CONNECT) == "connected"
        async with Client(here.server.url) as elsewhere:
            await elsewhere.log_in(here.account["email"])
            ended = await elsewhere.request("DELETE", f"/api/sessions/{again}")
            assert ended.status_code == 204
        assert await eventually(lambda: first.run("return end.reason === 'revoked';"))
        await whole(here)


@scenario(300)
async def test_each_call_of_a_session_its_refusals_and_aborts(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        tab = await here.tab()
        session_id = await here.log_in(tab)
        await tab.run(CONNECT)
        email = here.account["email"]
        assert await tab.run(CALLS, account=here.account, changed=f"another {PASSWORD}") == {
            "account": email,
            "fetched": email,
            "token": 3,
            "200": ["retry_later", 0],
            "404": ["fix_request", 404],
            "exists": "account-exists",
            "identity": "credential-invalid",
            "unknown": "intent-unknown",
            "large": "too-large",
            "begun": "begun",
            "cancelled": "asked",
            "aborted": ["AbortError"] * 5,
            "others": 0,
            "sessions": [session_id],
            "same": True,
            "over": "session-ended",
            "disconnected": "session-ended",
        }
        await whole(here)


@scenario(300)
async def test_five_tabs_restored_at_once_keep_their_session(tmp_path: Path) -> None:
    async with site(tmp_path, access_token_s=4) as here:
        tabs = [await here.browser.tab() for _ in range(TABS)]
        await here.visit(tabs[0])
        session_id = await here.log_in(tabs[0])
        for _ in range(2):
            restored = await asyncio.gather(*(here.visit(tab) for tab in tabs))
            assert {found[0] for found in restored} == {session_id}
        assert await asyncio.gather(*(tab.run(CONNECT) for tab in tabs)) == ["connected"] * TABS
        # Their tokens are renewed, whichever tab does it.
        before = len(refreshes(here.server, session_id))
        await eventually(lambda: len(refreshes(here.server, session_id)) > before + 3, 120)
        await asyncio.gather(*(tab.run("return visitor.session.account();") for tab in tabs))
        assert [await tab.run("return visitor.session.id;") for tab in tabs] == [session_id] * TABS
        await whole(here)


@scenario(300)
async def test_sleep_and_a_restart_of_the_server_lose_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, access_token_s=3) as here:
        tab = await here.tab()
        session_id = await here.log_in(tab)
        await tab.run(CONNECT)
        # A frozen page runs no timer: its token expires, and the server closes the socket.
        await tab.run(COUNT, to=3, pause=0)
        await tab.run(COUNTED)
        await tab.command("Page.setWebLifecycleState", state="frozen")
        await eventually(lambda: closes(here.server) == [4408], 120)
        await tab.command("Page.setWebLifecycleState", state="active")
        await tab.run(COUNT, to=30, pause=0.1)
        assert await tab.run("return downs;") >= 1
        await eventually(partial(tab.run, "return parts.length > 0;"))

        here.server.kill()
        here.server.start()
        # The execution began again after the crash, perhaps before the page was connected again.
        parts, state, result, attempt = await tab.run(COUNTED)
        assert (parts[-1], state, result, attempt) == (30, "succeeded", {"last": 30}, 2)
        assert await tab.run("return [visitor.session.id, (await visitor.session.account()).email];") == [
            session_id,
            here.account["email"],
        ]
        await whole(here)


def refreshes(server: ServerProcess, session_id: str) -> list[dict[str, Any]]:
    """Return the recorded refreshes of a session."""
    return [record for record in histories(server.data)[session_id] if record["event"] == "refresh"]


def closes(server: ServerProcess) -> list[int]:
    """Return the codes of the recorded disconnects, of all sessions."""
    history = [record for records in histories(server.data).values() for record in records]
    return [record["data"]["code"] for record in history if record["event"] == "disconnect"]


async def whole(here: Site) -> None:
    """Check that the log verifies, and that no session was taken for stolen."""
    async with httpx.AsyncClient(base_url=here.server.url) as http:
        assert (await http.get("/health/ready")).status_code == 200
    reasons = [record["data"].get("reason") for records in histories(here.server.data).values() for record in records]
    assert "token_reuse" not in reasons
    verify(here.server.data)
