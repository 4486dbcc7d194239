"""The guide's two back ends have at most ten lines, and close a session's sockets when it ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.back_ends import back_end, works
from tests.docs.pages import ROOT, captioned
from tests.support.running import scenario
from tests.support.server import running_server

_PAGE = "how-to/close-your-own-sockets.md"
_INTERLOCK = "http://127.0.0.1:8700"
_JAVASCRIPT = ROOT / "tests" / "javascript"


def program(caption: str, url: str) -> str:
    """Return one of the page's programs, for the server at ``url``."""
    text = captioned(_PAGE, caption)
    assert len([line for line in text.splitlines() if line.strip(" })];")]) <= 10
    assert _INTERLOCK in text
    return text.replace(_INTERLOCK, url)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@scenario()
async def test_the_python_back_end_closes_its_sockets(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        (tmp_path / "chat.py").write_text(program("chat.py", server.url))
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", "0", "chat:app"]
        async with back_end(command, server.url, server) as port:
            await works(server, port)


@pytest.mark.slow
@scenario()
async def test_the_node_back_end_closes_its_sockets(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    install(tmp_path)
    (modules / "ws").symlink_to(_JAVASCRIPT / "node_modules" / "ws")
    port = free_port()
    with running_server(tmp_path / "data") as server:
        text = program("chat.mjs", server.url)
        assert "port: 8765 }" in text
        (tmp_path / "chat.mjs").write_text(text.replace("port: 8765 }", f'port: {port}, host: "127.0.0.1" }}'))
        async with back_end(["node", str(tmp_path / "chat.mjs")], server.url, server, port):
            await works(server, port)


def install(folder: Path) -> None:
    """Install the kit into ``folder`` from what ``make npm`` packs."""
    pack = ["npm", "pack", "--silent", "--pack-destination", str(folder), str(ROOT / "interlock" / "node")]
    subprocess.run(pack, check=True, capture_output=True)
    [tarball] = folder.glob("*.tgz")
    command = [
        "npm",
        "install",
        "--prefix",
        str(folder),
        "--offline",
        "--no-audit",
        "--no-fund",
        "--silent",
        str(tarball),
    ]
    subprocess.run(command, check=True, capture_output=True)


_TYPED = """
import type { IncomingMessage } from "node:http";
import { follow, type Session, type Socket } from "interlock-backend";

declare const socket: Socket;
declare const request: IncomingMessage;
const sessions = follow({ url: "http://127.0.0.1:8700", client: "…", subscriber: "…", staleAfterS: 60 });
const session: Session | null = await sessions.guard(socket, request);
console.log(session?.subject);
sessions.close();
"""


@pytest.mark.slow
def test_the_node_module_has_types(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "node_modules" / "@types").symlink_to(_JAVASCRIPT / "node_modules" / "@types")
    shutil.copy(_JAVASCRIPT / "tsconfig.json", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    tsc = [str(_JAVASCRIPT / "node_modules" / ".bin" / "tsc"), "--noEmit", "--project", str(tmp_path)]
    (tmp_path / "typed.ts").write_text(_TYPED)
    right = subprocess.run(tsc, capture_output=True, text=True, check=False)
    assert right.returncode == 0, right.stdout
    (tmp_path / "typed.ts").write_text(_TYPED.replace("session?.subject", "session.subject"))
    wrong = subprocess.run(tsc, capture_output=True, text=True, check=False)
    assert "'session' is possibly 'null'" in wrong.stdout
