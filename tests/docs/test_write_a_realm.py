"""The page on realms: its code is that of the examples, its test runs, and its table and limits are those of the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from interlock.context import Context
from interlock.declarations import MAX_TIMEOUT_S
from interlock.intents import MAX_PARAMETERS_BYTES, MAX_PROGRESS_BYTES, MAX_RESULT_BYTES
from interlock.machine.execution.commands import Effects
from interlock.realm import GRACE_MS, PROMISES
from interlock.server.settings import Settings
from interlock.testing.process import RealmServer
from tests.docs.pages import DOCS, blocks, captioned
from tests.support.client import logged_in
from tests.support.server import running_server
from tests.support.source import ROOT

_PAGE = "how-to/write-a-realm.md"
_EXAMPLES = ROOT / "interlock" / "examples"


def test_the_code_on_the_page_is_from_the_examples() -> None:
    sources = [path.read_text() for path in _EXAMPLES.glob("*.py")]
    shown = [block.text for block in blocks(_PAGE) if block.language == "python" and not block.caption]
    assert len(shown) > 4
    assert [text for text in shown if not any(text in source for source in sources)] == []


def test_the_tests_on_the_page_pass_beside_the_example(tmp_path: Path) -> None:
    shutil.copy(_EXAMPLES / "notes.py", tmp_path)
    for name in ("test_notes.py", "test_contract.py"):
        (tmp_path / name).write_text(captioned(_PAGE, name))
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    # The other tests of the contract take long; those of the example itself are in tests/realms.
    chosen = ["-k", "owner_only or same_id", "test_notes.py", "test_contract.py"]
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert "2 passed, 3 deselected" in told.stdout


def test_the_commands_on_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve, show = (block.text for block in blocks(_PAGE) if block.language == "shell")
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(_EXAMPLES)
    program, command, *flags = serve.split()
    assert (program, command, flags[::2]) == ("interlock", "serve", ["--realm"] * 2)
    server = RealmServer(tmp_path / "data", flags[1::2], {})
    server.start()
    try:
        caller = server.log_in("ada@example.org")
        kept = caller.submit("note", "notes.create", {"text": "hello"})
        assert caller.wait(kept.json()["execution_id"])["state"] == "succeeded"
        answer = caller.submit("question", "agent.ask", {"question": "hello"})
        assert "I know 1 notes" in caller.wait(answer.json()["execution_id"])["result"]["text"]
    finally:
        server.stop()
    program, *arguments = show.split()
    assert program == "interlock"
    told = subprocess.check_output([sys.executable, "-m", "interlock.server.cli", *arguments], text=True)
    assert {"notes.create", "notes.find", "notes.remove", "agent.ask"} <= {*re.findall(r"\w+\.\w+", told)}


def test_the_intent_on_the_page_is_executed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    script = captioned(_PAGE, "Submit an intent")
    with running_server(tmp_path / "data", realm="interlock.examples.notes:realm") as server:
        default = f"http://127.0.0.1:{Settings().port}"
        assert default in script
        command = ["/bin/bash", "-euo", "pipefail", "-c", script.replace(default, server.url)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    _, first, again = told.stdout.splitlines()
    assert json.loads(first) == json.loads(again)
    assert json.loads(first)["result"] == {"note_id": 1, "text": "hello"}


def test_the_client_on_the_page_prints_progress_and_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    (tmp_path / "ask.py").write_text(captioned(_PAGE, "ask.py"))
    with running_server(
        tmp_path / "data", realm="interlock.examples.notes:realm,interlock.examples.agent:realm"
    ) as server:
        token = asyncio.run(_token(server.url))
        url = server.url.replace("http", "ws")
        command = [sys.executable, str(tmp_path / "ask.py"), url, token]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    progress, outcome = told.stdout.splitlines()
    assert progress == "You asked: hello I know 0 notes about it. "
    assert outcome.startswith("succeeded {'note_id': 1, 'text': 'You asked: hello")


async def _token(url: str) -> str:
    async with await logged_in(url) as client:
        return client.access_token


def test_the_page_lists_what_a_context_has() -> None:
    page = (DOCS / _PAGE).read_text()
    listed = page[page.index("What a `context` has:") : page.index("An outcome, which")]
    names = {name for line in re.findall(r"^(`.*)$", listed, re.MULTILINE) for name in re.findall(r"(\w+)[`(]", line)}
    assert names == {name for name in vars(Context) if not name.startswith("_")}


def test_the_page_names_every_kind_of_effects_and_its_promise() -> None:
    _, *rows = re.findall(r"^\| `(\w+)`.*\| (.+) \|$", (DOCS / _PAGE).read_text(), re.MULTILINE)
    assert [effects for effects, _ in rows] == [*get_args(Effects)]
    for effects, promise in rows:
        assert PROMISES[effects].startswith(f"{promise}:")


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    page = " ".join((DOCS / _PAGE).read_text().split())
    assert MAX_PARAMETERS_BYTES == MAX_RESULT_BYTES == 64 * 1024
    assert "Parameters and result are at most 64 KiB" in page
    assert MAX_PROGRESS_BYTES == 16 * 1024
    assert "a value, at most 16 KiB of JSON" in page
    assert MAX_TIMEOUT_S == 24 * 60 * 60
    assert "at most a day" in page
    assert f"has {GRACE_MS / 1000:g} seconds to clean up" in page
