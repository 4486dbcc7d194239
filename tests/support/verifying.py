"""A log that a server wrote, for ``interlock verify``."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from tests.support.client import hello, logged_in
from tests.support.server import ServerProcess

SPARE = 3
"""Anonymous sessions of one record each, at the end of the log."""


async def live(server: ServerProcess) -> list[dict[str, Any]]:
    """Run one session from login to logout, and create a few others. Return the receipts of what was acknowledged."""
    receipts = []
    async with await logged_in(server.url) as client:
        receipts.append(client.tokens["receipt"])
        async with client.connect() as socket:
            receipts.append((await hello(socket))["receipt"])
            receipts.append((await client.refresh()).json()["receipt"])
        await client.request("POST", "/api/auth/logout")
        receipts += [(await client.sibling().begin()).json()["receipt"] for _ in range(SPARE)]
    return receipts


def verify(*arguments: object, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(
        main,
        ["verify", *map(str, arguments)],
        input=stdin,
        env={"INTERLOCK_DATA": None, "INTERLOCK_HEAD_FILE": None, **environment},
    )


def text(receipt: dict[str, Any]) -> str:
    return f"{receipt['position']}.{receipt['digest']}"
