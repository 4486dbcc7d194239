"""Data folders of servers that have stopped, and what may be wrong with their logs."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pysqlite3

from interlock.server.guard.secrets import Secrets
from tests.support.client import logged_in
from tests.support.server import running_server


def stopped_server(data: Path) -> Path:
    """Fill the folder ``data`` as a server does to which one user has logged in, with an administrator's secret. Return it."""
    with running_server(data) as server:
        asyncio.run(log_in_once(server.url))
    Secrets(data / "keys", "admin").create("ada", 1)
    return data


async def log_in_once(url: str) -> None:
    """Log in to a new account."""
    async with await logged_in(url):
        pass


def tamper(data: Path) -> None:
    """Change a record."""
    _change(data, "UPDATE transitions SET at_ms = at_ms + 1 WHERE position = 3")


def cut(data: Path) -> None:
    """Remove the last record."""
    _change(data, "DELETE FROM transitions WHERE position = (SELECT max(position) FROM transitions)")


def _change(data: Path, statement: str) -> None:
    with closing(pysqlite3.connect(str(data / "interlock.db"), isolation_level=None)) as shell:
        for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            shell.execute("DROP TRIGGER " + name)
        shell.execute(statement)
