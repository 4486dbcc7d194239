"""The calls of one login, handshake, forward-auth, intent and revocation, recorded in one process.

``python -m tests.support.ways`` prints for each how many folders it enters, and in how many stays: consecutive calls of
this project's code in one folder. The writer's and readers' threads, lambdas and comprehensions are not included.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple

from interlock.server.app import app_over
from interlock.server.experience.transport.exchange import EXTENSION
from interlock.server.services import Services
from tests.support.running import eventually
from tests.support.some_realm import realm
from tests.support.source import ROOT
from tests.support.wire import Wire, log_in, services_in

_CODE = ("spec/", "machine/", "server/")
_ADA = b'{"email": "ada@example.org", "password": "correct horse battery staple"}'


class Call(NamedTuple):
    """One call: its file, its function's name with its class, and the enclosing calls of this project, innermost first."""

    file: str
    name: str
    within: list[tuple[str, str]]


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Record every call of this project's code in this thread until the context ends. Resuming a coroutine is no call."""
    calls: list[Call] = []
    files: dict[CodeType, str] = {}
    frames: dict[int, FrameType] = {}

    def file_of(code: CodeType) -> str:
        if code not in files:
            path = Path(code.co_filename).resolve()
            name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
            files[code] = name if name.startswith(_CODE) and not code.co_name.startswith("<") else ""
        return files[code]

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not file_of(frame.f_code) or id(frame) in frames:
            return
        frames[id(frame)] = frame  # kept, so that no other frame reuses its number
        within, outer = [], frame.f_back
        while outer is not None:
            if file_of(outer.f_code):
                within.append((file_of(outer.f_code), outer.f_code.co_qualname))
            outer = outer.f_back
        calls.append(Call(file_of(frame.f_code), frame.f_code.co_qualname, within))

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def record_ways(folder: Path) -> dict[str, list[Call]]:
    """Return the calls of each way, by its name."""
    ways: dict[str, list[Call]] = {}
    async with services_in(folder, realm) as services:
        ask = _asking(services)
        await ask("POST", "/api/auth/register", _ADA)
        with recorded() as ways["Log in"]:
            await ask("POST", "/api/auth/login", _ADA)
        session, token = await log_in(services)
        wire = Wire(services, token)
        with recorded() as ways["Connect"]:
            running = wire.run()
            await eventually(lambda: "hello" in wire.said)
        with recorded() as ways["Forward-auth"]:
            await ask("GET", "/api/forward-auth", b"", (b"authorization", f"Bearer {token}".encode()))
        intent = b'{"id": "i1", "name": "some_realm.echo", "parameters": {"text": "hello"}}'
        with recorded() as ways["Intent to outcome"]:
            await ask("POST", "/api/intents", intent, (b"authorization", f"Bearer {token}".encode()))
            (execution,) = await services.executions.page(session, None, 1)
            await services.runner.outcome(execution.execution_id)
        with recorded() as ways["Revocation to close"]:
            await services.sessions.end(session, "revoked", "ada")
        await running
    return ways


def _asking(services: Services) -> Callable[..., Any]:
    app = app_over(services)

    async def ask(method: str, path: str, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            assert message.get("status", 200) in {200, 201, 202}

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers],
            "client": ("127.0.0.1", 1),
            "extensions": {EXTENSION: SimpleNamespace(request=SimpleNamespace(body=body))},
            "state": {},
        }
        await app(scope, receive, send)

    return ask


def stays(calls: list[Call]) -> list[str]:
    """Return the folders that ``calls`` are in, one after the other."""
    folders = [call.file.rpartition("/")[0] for call in calls]
    return [folder for number, folder in enumerate(folders) if number == 0 or folders[number - 1] != folder]


def main() -> None:
    """Print the cost of each way to a reader."""
    with tempfile.TemporaryDirectory() as folder:
        for name, calls in asyncio.run(record_ways(Path(folder))).items():
            visited = stays(calls)
            sys.stdout.write(f"{name}: {len(calls)} calls, {len(set(visited))} folders, {len(visited)} stays\n")


if __name__ == "__main__":
    main()
