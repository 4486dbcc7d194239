"""One server process with an execution that does not end by itself: ``python -m tests.support.left_running FOLDER CODE``.

CODE is ``swallows``, which no exception ends: the process then stops. Else it is the effects of code that hangs: the process
waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from interlock.context import Context
from tests.support.running import eventually
from tests.support.runtime import bench, notes


async def swallow(_context: Context, _text: str) -> str:
    while True:
        with suppress(BaseException):
            await asyncio.Event().wait()


async def hang(_context: Context, _text: str) -> str:
    await asyncio.Event().wait()
    return ""


async def main(folder: Path, code: str) -> None:
    realm = notes(swallow) if code == "swallows" else notes(hang, effects=code, timeout_s=600)
    async with bench(folder, realm) as made:
        await made.submit(await made.login())
        await eventually(lambda: made.runner.running)
        sys.stdout.write("running\n")
        sys.stdout.flush()
        if code != "swallows":
            await asyncio.Event().wait()
    sys.stdout.write("closed\n")


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
