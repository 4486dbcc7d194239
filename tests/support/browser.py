"""A real headless Chromium, controlled over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.client import ClientConnection, connect

_LIMIT_S = 120.0

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * 127.0.0.1, EXCLUDE localhost",
)


class Tab:
    """One tab. Errors of a page's script are raised here."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def go(self, url: str) -> str:
        """Navigate as if the URL was typed; wait until it is loaded, and return the final URL."""
        loaded = self._browser.expect(self._session, "Page.loadEventFired")
        answer = await self.command("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        await asyncio.wait_for(loaded, _LIMIT_S)
        return str(await self.run("location.href"))

    async def run(self, script: str, **values: Any) -> Any:
        """Run the body of an async function ``script`` in the page, with ``values`` as its names, and return its result."""
        names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        body = script if "return" in script else f"return {script}"
        answer = await self.command(
            "Runtime.evaluate",
            expression=f"(async () => {{ {names} {body} }})()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def command(self, method: str, **parameters: Any) -> Any:
        """Send any command of the DevTools protocol."""
        return await self._browser.command(method, self._session, **parameters)


class Browser:
    """A running browser with its own profile."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._events: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def tab(self) -> Tab:
        """Open a new tab."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, attached["sessionId"])
        await tab.command("Page.enable")
        return tab

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send one command and wait for its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        return await asyncio.wait_for(answer, _LIMIT_S)

    def expect(self, session: str, event: str) -> asyncio.Future[None]:
        """Return a future for the next ``event`` of a tab."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events[session, event] = future
        return future

    async def listen(self) -> None:
        """Read the browser's messages until it is gone."""
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if "error" in message:
                    answer.set_exception(AssertionError(str(message["error"])))
                elif not answer.done():
                    answer.set_result(message["result"])
            else:
                event = self._events.pop((message.get("sessionId", ""), message["method"]), None)
                if event is not None:
                    event.set_result(None)


@asynccontextmanager
async def chromium(folder: Path, certificate: Path | None = None) -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile in ``folder``. It resolves every name to this machine, and trusts ``certificate``."""
    program = shutil.which("chromium")
    assert program, "the tests need chromium: make packages"
    profile = folder / "profile"
    trust = [f"--ignore-certificate-errors-spki-list={_pin(certificate)}"] if certificate else []
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *_FLAGS, *trust, f"--user-data-dir={profile}", stdout=log, stderr=log
        )
    try:
        address = await asyncio.wait_for(_address(profile, process), _LIMIT_S)
        async with connect(
            address, max_size=None, compression=None, open_timeout=_LIMIT_S, ping_interval=None
        ) as socket:
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                listening.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _address(profile: Path, process: asyncio.subprocess.Process) -> str:
    """Wait for the address that it listens on."""
    said = profile / "DevToolsActivePort"
    while True:
        lines = said.read_text().splitlines() if said.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.returncode is None, f"Chromium does not start; it says why beside {profile}"
        await asyncio.sleep(0.05)


def _pin(certificate: Path) -> str:
    """Return Chromium's hash of the certificate's key."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()
