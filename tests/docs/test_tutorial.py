"""The tutorial: its commands, run in order, print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from interlock.server.settings import Settings
from tests.docs.pages import Block, blocks
from tests.support.server import running_server

_PAGE = "tutorial/first-session.md"
_URL = f"http://127.0.0.1:{Settings().port}"
_MARK = "@@ end of block"
_WAITS = {
    "laptop.json & sleep 2\n": "laptop.json | tee hello.txt &\nuntil grep -q hello hello.txt; do sleep 0.1; done\n",
    "; sleep 2\n": "; wait\n",
}
"""Waits are longer here, because the machine may be busy."""


def _script(url: str) -> tuple[str, dict[str, str], list[Block | None]]:
    """Return one shell script of all commands, the files to save before it, and the output expected of each command."""
    first, *rest = blocks(_PAGE)
    # The test itself starts the server of ``make run``, on a free port.
    assert (first.language, first.text.strip()) == ("shell", "make run")
    files = {block.caption: block.text for block in rest if block.language == "python"}
    assert all(files), "each Python block has a file name"
    commands = [block for block in rest if block.language == "shell"]
    said: list[Block | None] = [
        after if after.language in {"json", "text"} else None
        for block, after in pairwise([*rest, Block("", "", "")])
        if block.language == "shell"
    ]
    assert {block.language for block in rest} == {"shell", "python", "json", "text"}
    script = "".join(f"{block.text}\necho '{_MARK}'\n" for block in commands)
    assert _URL in script
    for waits_a_moment, waits_for_it in _WAITS.items():
        assert waits_a_moment in script
        script = script.replace(waits_a_moment, waits_for_it)
    return script.replace(_URL, url), files, said


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, line.split("…"))))


def _shows(block: Block, printed: str) -> bool:
    """Check that ``printed`` matches ``block``; background output may appear in between."""
    expected, lines = block.text.strip().splitlines(), printed.strip().splitlines()
    if block.language == "text":
        expected, lines = sorted(expected), sorted(lines)
    return len(expected) == len(lines) and all(
        _pattern(wanted).fullmatch(line) for wanted, line in zip(expected, lines, strict=True)
    )


def test_the_tutorials_commands_print_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with running_server(tmp_path / "data") as server:
        script, files, said = _script(server.url)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        run = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            # Whole lines, so that background output does not break into them.
            env={**os.environ, "PYTHONUNBUFFERED": "", "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
            check=False,
        )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.split(_MARK)[:-1]
    assert len(printed) == len(said)
    for block, output in zip(said, printed, strict=True):
        if block is not None:
            assert _shows(block, output), f"the page shows:\n{block.text}\nit printed:\n{output}"
    assert sum(block is not None for block in said) >= 10
