"""Records the golden traces of tests/spec/traces from a real server: ``python -m tests.support.record_traces``.

Ids and times are shortened for human readers; nothing else is changed. The trace of two nodes is written by hand.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from interlock.machine.session.commands import Touch
from interlock.server.runtime.door import commands
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.client import Client, closed, hello, logged_in
from tests.support.running import run
from tests.support.server import ServerProcess, running_server
from tests.support.source import ROOT

_GOLDEN: Final = ROOT / "tests/spec/traces/golden"
_NAMED: Final = re.compile(
    r'(?P<prefix>"(?P<what>session|instance|command|connection|connection_id|life|subject)":")(?P<id>[^"]+)"'
)
_SHORT: Final = {
    "session": "s",
    "instance": "s",
    "command": "c",
    "connection": "w",
    "connection_id": "w",
    "life": "life-",
    "subject": "a",
}


async def life(data: Path) -> Path:
    """Run one session from its first page load to a revocation, with two sockets; the second one disconnects."""
    with running_server(data) as server:
        async with Client(server.url) as client:
            await client.begin()
            await client.register("ada@example.org")
            await client.log_in("ada@example.org")
            async with client.connect() as first:
                await hello(first)
                async with client.connect() as second:
                    await hello(second)
                await client.refresh()
                (await client.request("POST", "/api/auth/logout")).raise_for_status()
                await closed(first)
    return server.trace


async def kill(data: Path) -> Path:
    """Two sockets, a kill -9, a start. The trace's end is cut as if the kill had come right after the last commit."""
    server = ServerProcess(data, {})
    server.start()
    async with await logged_in(server.url) as client:
        async with client.connect() as first, client.connect() as second:
            await hello(first)
            await hello(second)
            await client.refresh()
            server.kill()
        text = server.trace.read_bytes()
        server.trace.write_bytes(text[: text.rindex(b'{"type":"append"')])
        server.start()
        async with client.connect() as again:
            await hello(again)
    server.stop()
    return server.trace


async def rename(data: Path) -> Path:
    """An ended session, a connected one, a kill, and a start under another name that finds an untraced record."""
    server = ServerProcess(data, {})
    server.start()
    async with await logged_in(server.url) as client:
        (await client.request("POST", "/api/auth/logout")).raise_for_status()
    async with await logged_in(server.url) as client, client.connect() as socket:
        await hello(socket)
        server.kill()
    text = server.trace.read_bytes()
    server.trace.write_bytes(text[: text.rindex(b'{"type":"append"')])
    server._settings["node"] = "node-9"
    server.start()
    server.stop()
    return server.trace


async def expiry(data: Path) -> Path:
    """An idle session ends at its deadline, and its socket with it."""
    with running_server(data, idle_timeout_s=0.5) as server:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await closed(socket)
    return server.trace


async def repeat(data: Path) -> Path:
    """Repeat a command: the second time it is answered from the log."""
    trace = data.with_suffix(".jsonl")
    settings = Settings(data=str(data), model_trace=str(trace), cheap_passwords_for_tests=True)
    async with open_services(settings) as services:
        session = (await services.sessions.begin("anonymous")).instance
        once = commands("anonymous", Touch())
        await services.sessions.submit(session.session_id, *once)
        await services.sessions.submit(session.session_id, *commands("anonymous", Touch()))
        await services.sessions.submit(session.session_id, *once)
    return trace


def shortened(text: str) -> str:
    """Return ``text`` with short ids, and times in milliseconds since a second before its first record."""
    numbers: dict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
    names: dict[str, str] = {}

    def short(match: re.Match[str]) -> str:
        letter = _SHORT[match["what"]]
        if match["id"] not in names:
            names[match["id"]] = f"{letter}{next(numbers[letter])}"
        return f'{match["prefix"]}{names[match["id"]]}"'

    times = [int(at_ms) for at_ms in re.findall(r'"at_ms":(\d+)', text)]
    text = _NAMED.sub(short, text)
    return re.sub(r'"at_ms":(\d+)', lambda match: f'"at_ms":{int(match[1]) - times[0] + 1000}', text)


_RECORDED: Final[tuple[Callable[[Path], Awaitable[Path]], ...]] = (life, kill, rename, expiry, repeat)


def main() -> None:
    """Record all traces."""
    for record in _RECORDED:
        folder = Path(tempfile.mkdtemp())
        try:

            async def recorded(data: Path, record: Callable[[Path], Awaitable[Path]] = record) -> Path:
                return await record(data)

            trace = run(recorded(folder / "data"))
            (_GOLDEN / f"{record.__name__}.jsonl").write_text(shortened(trace.read_text()))
            sys.stdout.write(f"{record.__name__}.jsonl\n")
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
