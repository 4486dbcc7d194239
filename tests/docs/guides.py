"""Runs a guide: its commands, in order, against a server. What they print must be what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from interlock.server.settings import Settings
from tests.docs.pages import Block, blocks
from tests.support.server import ServerProcess

_URL = f"http://127.0.0.1:{Settings().port}"
_DATA = "/var/lib/interlock"
_MARK = "@@ end of block"


def follow_guide(page: str, server: ServerProcess) -> list[tuple[str, str]]:
    """Run the shell blocks of ``page`` as one script. Return each block's text, and what it printed.

    A block of another language right after one is what that one prints; … in it matches anything.
    """
    found = blocks(page)
    commands = [block for block in found if block.language == "shell"]
    shown = {
        before: after
        for before, after in pairwise(found)
        if before.language == "shell" and after.language in {"json", "text"}
    }
    assert shown
    script = "".join(f"{block.text}\necho; echo '{_MARK}'\n" for block in commands)
    assert _URL in script
    assert _DATA in script
    run = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script.replace(_URL, server.url).replace(_DATA, str(server.data))],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    printed = run.stdout.split(_MARK)[:-1]
    assert len(printed) == len(commands)
    for block, output in zip(commands, printed, strict=True):
        if block in shown:
            assert _shows(shown[block], output), f"the page shows:\n{shown[block].text}\nit printed:\n{output}"
    return [(block.text, output) for block, output in zip(commands, printed, strict=True)]


def _shows(block: Block, printed: str) -> bool:
    """Return whether ``printed`` begins as the page shows."""
    pattern = ".*".join(re.escape(part) for part in re.split("…", block.text.strip().replace("\n", "\r\n")))
    return re.match(pattern, printed.strip().replace("\r\n", "\n").replace("\n", "\r\n"), re.DOTALL) is not None
