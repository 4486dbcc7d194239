"""Canaries: secrets used correctly and wrongly throughout a run must appear in no output or file of the server."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import websockets

from interlock.server.guard.secrets import Secrets
from tests.support import failing
from tests.support.canary import Canaries
from tests.support.client import Client, new_email
from tests.support.log import interlock
from tests.support.receiver import receiving
from tests.support.running import eventually, run
from tests.support.server import ServerProcess

COOKIE = "__Host-interlock"
METHODS = ("get", "post", "put", "patch", "delete")
BROWSER = {"sec-fetch-site": "same-origin"}


class FailingServer(ServerProcess):
    """A server with faults whose errors contain secrets."""

    prepare = staticmethod(failing.put_in)


class Run:
    """One run: the secrets, whole and as search patterns, and everything that the server sent to its clients.

    Each endpoint gets one in ``one_in`` of the secrets.
    """

    def __init__(self, server: ServerProcess, one_in: int) -> None:
        self.server = server
        self.one_in = one_in
        self.canaries = Canaries()
        self.whole: dict[str, str] = {}
        self.made: dict[str, str] = {}
        self.said: list[bytes] = []
        self.statuses: set[int] = set()
        self._numbers = itertools.count(1)
        self.http = httpx.AsyncClient(base_url=server.url, timeout=30)

    def password(self, what: str, marker: str = "") -> str:
        secret = f"canary {secrets.token_hex(12)} {marker}☂ “pässword” \\ {secrets.token_hex(12)}"
        self.whole[what] = self.canaries.password(what, secret)
        return secret

    def token(self, what: str, token: str) -> str:
        """Add a token, a ticket or another program's secret. Its secret part is at its end."""
        what = f"{what} {next(self._numbers)}"
        self.whole[what] = token
        self.canaries.add(what, token.rpartition(".")[2][-43:])
        return token

    def took(self, answer: httpx.Response) -> httpx.Response:
        """Add tokens in an answer to the canaries; everything else in it is output to search."""
        self.statuses.add(answer.status_code)
        text = answer.text
        given: dict[str, Any] = answer.json() if answer.is_success and text.startswith("{") else {}
        for name in ("access_token", "refresh_token", "ticket", "code"):
            if name in given:
                text = text.replace(self.token(name, given[name]), "")
        headers = [(k, v) for k, v in answer.headers.multi_items() if not (k == "set-cookie" and answer.is_success)]
        if answer.cookies.get(COOKIE):
            self.token("cookie", answer.cookies[COOKIE])
        self.said += [text.encode(), repr(headers).encode(), answer.content if not given else b""]
        return answer

    async def call(self, method: str, path: str, **arguments: Any) -> httpx.Response | None:
        """Send a request, unless the client library refuses to."""
        try:
            async with asyncio.timeout(5):
                return self.took(await self.http.request(method, path, **arguments))
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, TimeoutError):
            return None
        except httpx.TransportError:
            return None

    async def socket(self, path: str = "", say: tuple[str | bytes, ...] = (), **arguments: Any) -> None:
        """Open a WebSocket and send messages on it. Record the server's output."""
        url = self.server.socket_url + path
        try:
            async with (
                asyncio.timeout(10),
                websockets.connect(url, compression=None, **arguments) as socket,
            ):
                self.said.append(str(await socket.recv()).encode())
                for message in say:
                    await socket.send(message)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        while True:
                            self.said.append(str(await socket.recv()).encode())
        except websockets.InvalidStatus as refused:
            body, headers = refused.response.body, list(refused.response.headers.raw_items())
            self.said += [bytes(body or b""), repr(headers).encode()]
        except websockets.ConnectionClosed as closed:
            self.said.append(repr(closed.rcvd).encode())
        except (websockets.InvalidHandshake, websockets.InvalidMessage, ValueError, OSError, TimeoutError):
            pass


@pytest.mark.slow
@pytest.mark.asvs("16.2.5", "14.2.1", "16.5.1")
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_no_secret_appears_in_any_output_or_file(tmp_path: Path, *, as_json: bool) -> None:
    data = tmp_path / "data"
    with receiving() as receiver:
        server = FailingServer(
            data,
            {
                "log_json": as_json,
                "log_level": "debug",
                "access_log": True,
                "metrics_port": 0,
                "otel_endpoint": receiver.url,
                "refresh_grace_s": 1,
            },
        )
        server.start()
        try:
            made = {kind: Secrets(data / "keys", kind).create("canary", 1) for kind in ("admin", "client")}
            made["subscriber"] = Secrets(data / "keys", "subscriber").create("canary", 1, ("all",))
            found = run(everything(server, made, 5), within_s=1200)
        finally:
            server.stop()
        assert len(receiver.bodies) > 3
        sent = b"".join(receiver.bodies)
    canaries, said = found.canaries, found.said
    # The run worked: tokens were issued, requests of all kinds refused, faults provoked.
    assert {200, 201, 204, 400, 401, 403, 404, 405, 409, 415, 422, 500} <= found.statuses
    log = server.log_path.read_bytes()
    for event in (b"http.failed", b"socket.failed", b"task.failed", b"login.failed", b"token.reused", b"http.answered"):
        assert event in log, event
    assert data.joinpath("interlock.db").stat().st_size > 0
    told = [
        *canaries.found("the log", log),
        *canaries.found("the spans", sent),
        *_found_in_what_was(said, canaries),
        *canaries.found_in(tmp_path, server.trace),
        *canaries.found("the export", interlock("export", data).stdout.encode()),
    ]
    assert told == []


def _found_in_what_was(said: list[bytes], canaries: Canaries) -> list[str]:
    """Search all outputs at once, which is fast, and one by one only to name the place."""
    if not canaries.found("all that was said", b"\n\n".join(said)):
        return []
    return [found for text in said for found in canaries.found(f"what was said: {text[:400]!r}", text)]


async def everything(server: ServerProcess, made: dict[str, str], one_in: int) -> Run:
    """Use secrets correctly and wrongly, cause faults, kill, restart, and use them again. Search the files in between."""
    this = Run(server, one_in)
    async with this.http:
        await use(this, made)
    return this


async def use(this: Run, made: dict[str, str]) -> None:
    """Run all steps in order."""
    server = this.server
    this.made = made
    for kind, secret in made.items():
        this.token(f"{kind} secret", secret)
    email = new_email()
    first, second = this.password("password"), this.password("new password")
    for password in (first, second):
        this.password(f"nearly the {'first' if password == first else 'second'}")
    await good_use(this, email, first, second)
    await bad_use(this, email)
    await faults(this, email)
    assert this.canaries.found("the metrics", metrics(server).encode()) == []
    assert this.canaries.found_in(server.data, server.log_path, server.trace) == []
    server.kill()
    assert this.canaries.found_in(server.data, server.log_path, server.trace) == []
    server.start()
    await good_use(this, new_email(), this.password("another password"), this.password("a fourth password"))
    for secret in list(this.whole.values()):
        await this.call("GET", "/api/session", headers={"authorization": f"Bearer {secret}"})
        await this.call("POST", "/api/auth/refresh", json={"refresh_token": secret})
    assert this.canaries.found("the metrics", metrics(server).encode()) == []


def metrics(server: ServerProcess) -> str:
    """Read the metrics. They are searched in either log format."""
    import re

    log = server.log_path.read_text()
    url = re.findall(r"http://127\.0\.0\.1:\d+/metrics", log)[-1]
    return httpx.get(url).text


async def good_use(this: Run, email: str, first: str, second: str) -> None:
    """Send each secret where it belongs."""

    async def post(path: str, body: Any = None, token: str = "", **headers: str) -> dict[str, Any]:
        given = {**({"authorization": f"Bearer {token}"} if token else {}), **headers}
        answer = await this.http.post(path, json=body, headers=given)
        this.took(answer)
        return answer.json() if answer.content else {}

    this.took(await this.http.post("/api/auth/register", json={"email": email, "password": first}))
    anonymous = await post("/api/session")
    tokens = await post("/api/auth/login", {"email": email, "password": first}, anonymous["access_token"])
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    for path in ("/api/session", "/api/session/transitions", "/api/sessions"):
        this.took(await this.http.get(path, headers=bearer))
    ticket = (await post("/api/session/ticket", {}, tokens["access_token"]))["ticket"]
    refresh = json.dumps({"type": "refresh", "access_token": tokens["access_token"]})
    await this.socket(subprotocols=["interlock.v1", f"ticket.{ticket}"], say=(refresh, '{"type":"ping"}'))
    await this.socket(subprotocols=["interlock.v1"], additional_headers=bearer)
    fresh = await post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    changed = await post(
        "/api/auth/password", {"current_password": first, "new_password": second}, fresh["access_token"]
    )
    browser = await this.http.post("/api/auth/login", json={"email": email, "password": second}, headers=BROWSER)
    cookie = this.took(browser).cookies[COOKIE]
    this.http.cookies.clear()
    held = {**BROWSER, "cookie": f"{COOKIE}={cookie}"}
    await this.socket(additional_headers={**held, "origin": this.server.url})
    next_one = this.took(await this.http.post("/api/auth/refresh", headers=held)).cookies[COOKIE]
    this.took(await this.http.post("/api/auth/refresh", headers={**BROWSER, "cookie": f"{COOKIE}={next_one}"}))
    this.http.cookies.clear()
    # The answer to the cookie's token was used: after the grace it is reuse, which ends the session.
    await asyncio.sleep(1.1)
    this.took(await this.http.post("/api/auth/refresh", headers=held))
    client = ("canary", this.made["client"])
    for path, token in (
        ("/oauth/introspect", changed["access_token"]),
        ("/oauth/revoke", browser.json()["access_token"]),
    ):
        answer = this.took(await this.http.post(path, data={"token": token}, auth=client))
        assert answer.status_code == 200
    admin = {"authorization": f"Bearer {this.made['admin']}"}
    for path in ("sessions", "accounts", "transitions", "audit"):
        assert this.took(await this.http.get(f"/api/admin/{path}", headers=admin)).status_code == 200
    (account,) = (await this.http.get(f"/api/admin/accounts?email={email}", headers=admin)).json()
    issued = await this.http.post(f"/api/admin/accounts/{account['subject']}/reset-code", headers=admin)
    code = issued.json()["code"]
    this.took(issued)
    for address in (new_email(), email, email):
        await post("/api/auth/reset", {"email": address, "code": code, "new_password": second})
    subscriber = {"authorization": f"Bearer {this.made['subscriber']}"}
    assert this.took(await this.http.get("/api/events?after=0&limit=1000", headers=subscriber)).status_code == 200
    await post("/api/auth/logout", {}, changed["access_token"])


async def bad_use(this: Run, email: str) -> None:
    """Send each secret in every wrong place, on every endpoint."""
    document = (await this.http.get("/schema/openapi.json")).json()
    calls = [(m.upper(), path) for path, item in document["paths"].items() for m in item if m in METHODS]
    secrets_now = list(this.whole.values())
    work = asyncio.Semaphore(8)
    good = Client(this.server.url, this.http)
    await good.register(other := new_email(), this.whole["password"])
    this.took(await good.log_in(other, this.whole["password"]))

    async def misuse(number: int, method: str, path: str) -> None:
        # Each endpoint gets a few of the secrets in every place, and each secret a few of the endpoints.
        for secret in secrets_now[number % this.one_in :: this.one_in]:
            async with work:
                for arguments in misplaced(secret, email):
                    await this.call(method, fill(path, secret), **arguments)

    async def misuse_elsewhere(secret: str) -> None:
        safe = quote(secret, safe="")
        async with work:
            for method, path in (("GET", f"/{safe}"), ("GET", f"/api/session/{safe}"), ("PUT", "/api/session")):
                await this.call(method, path, params={"access_token": secret, secret: "x"}, headers=BROWSER)
            await asyncio.gather(*[attempt async for attempt in socket_misuse(this, secret, safe, good.bearer)])
            for text in (f"{safe} / HTTP/1.1\r\n\r\n", f"GET /?{safe} HTTP/1.1\r\n{safe}\r\n\r\n", f"{secret}\r\n\r\n"):
                this.said.append(await raw(this.server, text.encode()))

    await asyncio.gather(*(misuse(number, method, path) for number, (method, path) in enumerate(calls)))
    await asyncio.gather(*map(misuse_elsewhere, secrets_now))


def fill(path: str, secret: str) -> str:
    """Fill the parameters of ``path`` with ``secret``."""
    parts = [quote(secret, safe="") if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def misplaced(secret: str, email: str) -> Iterator[dict[str, Any]]:
    """Yield requests that have ``secret`` in a wrong place."""
    safe = quote(secret, safe="")
    yield {"params": {"token": secret, secret: "1"}}
    yield {"headers": {f"x-{safe.replace('%', '').lower()}": "1"}}
    for name in ("x-request-id", "traceparent", "user-agent", "accept", "content-type", "x-forwarded-for", "if-match"):
        yield {"headers": {name: safe}}
    yield {"headers": {"authorization": f"Bearer {safe}"}}
    yield {"headers": {"authorization": "Basic " + base64.b64encode(f"{email}:{secret}".encode()).decode()}}
    yield {"headers": {"authorization": safe}}
    yield {"headers": {"origin": f"https://{safe}", **BROWSER}}
    yield {
        "headers": {"referer": f"https://example.org/?{safe}", "cookie": f"{COOKIE}={safe}; {safe}={safe}", **BROWSER}
    }
    for body in (
        {"email": secret, "password": secret},
        {"email": email, "password": secret},
        {"email": f"{safe[:60]}@example.org", "password": secret, secret: secret},
        {"refresh_token": secret},
        {"email": [secret], "password": {secret: 1}},
        {"current_password": secret, "new_password": secret},
        {"token": secret, "subject": secret},
        [secret],
        secret,
    ):
        yield {"json": body}
    yield {"data": {"token": secret, "password": secret}}
    json_type = {"content-type": "application/json"}
    yield {"content": f'{{"email": "{secret}'.encode(), "headers": json_type}
    yield {
        "content": json.dumps({secret: 1})[:-1].encode() + b"," + json.dumps({secret: 2})[1:].encode(),
        "headers": json_type,
    }
    yield {"content": f"{secret}".encode("utf-16"), "headers": json_type}


async def socket_misuse(this: Run, secret: str, safe: str, bearer: dict[str, str]) -> AsyncIterator[Any]:
    """Send handshakes and messages that have ``secret`` in a wrong place."""
    word = safe.replace("%", "")
    yield this.socket(f"?ticket={safe}&{safe}=1", subprotocols=["interlock.v1"])
    yield this.socket(subprotocols=["interlock.v1", f"ticket.{word}"])
    yield this.socket(subprotocols=[word])
    yield this.socket(subprotocols=["interlock.v1"], origin=f"https://{word}")
    yield this.socket(subprotocols=["interlock.v1"], additional_headers={"authorization": f"Bearer {safe}", word: word})
    yield this.socket(f"/{safe}", subprotocols=["interlock.v1"])
    for message in (
        secret,
        secret.encode(),
        json.dumps({"type": secret}),
        json.dumps({secret: secret}),
        json.dumps({"type": "refresh", "access_token": secret}),
        json.dumps({"type": "refresh", "access_token": {secret: 1}}),
        '{"type": "ping", "' + secret,
    ):
        yield this.socket(subprotocols=["interlock.v1"], additional_headers=bearer, say=(message,))


async def raw(server: ServerProcess, text: bytes) -> bytes:
    """Return the server's answer to bytes that are no request."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(text)
    said = b""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(0.2):
            said = await reader.read(4096)
    writer.close()
    return said


async def faults(this: Run, email: str) -> None:
    """Cause faults of the server while it holds secrets."""
    secret = this.password("password of a fault", "explode ")
    answer = await this.http.post("/api/auth/login", json={"email": email, "password": secret})
    assert this.took(answer).status_code == 500
    ticket = this.token("ticket of a fault", f"explode{secrets.token_urlsafe(32)}")
    await this.socket(subprotocols=["interlock.v1", f"ticket.{ticket}"])
    await eventually(lambda: b"socket.failed" in this.server.log_path.read_bytes())
    await eventually(lambda: b"task.failed" in this.server.log_path.read_bytes())
