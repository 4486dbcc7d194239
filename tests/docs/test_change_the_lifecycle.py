"""The guide to a new state: its changes, made in a copy of the sources, have the effects it describes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.source import ROOT, copy_sources

_GUIDE: Final = (ROOT / "docs/how-to/change-the-lifecycle.md").read_text(encoding="utf-8")
_HUNK: Final = re.compile(r"^@@\n((?:[ +-].*\n|\+?\n)+)", re.MULTILINE)

# In a separate process, because this one has loaded the modules of the real sources.
_LIFE: Final = """
import asyncio, sys
from pathlib import Path
from interlock.machine.session.commands import Connect, Resume, Suspend
from interlock.machine.errors import SessionUnusable, TransitionRefused
from interlock.machine.session.machine import ensure_usable
from interlock.machine.session.session import ensure_alive
from interlock.server.app import app_over
from interlock.server.runtime.door import commands
from tests.support.inside import HOST, client_of
from tests.support.wire import log_in, services_in

PAGE = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}
ADA = {"email": "somebody.new@example.org", "password": "correct horse battery staple"}

async def page(services):
    # A browser's calls are answered, nobody acts under the paused session, and it can be ended.
    async with client_of(app_over(services)) as http:
        (await http.post("/api/auth/register", json=ADA)).raise_for_status()

        async def ask(method, path, cookies, bearer=None, body=None):
            headers = PAGE | {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
            if bearer is not None:
                headers["authorization"] = f"Bearer {bearer}"
            http.cookies.clear()
            answer = await http.request(method, path, headers=headers, json=body)
            return answer, {cookie.name: cookie.value for cookie in answer.cookies.jar}

        async def paused():
            answer, cookies = await ask("POST", "/api/auth/login", {}, body=ADA)
            held = answer.json()
            await services.sessions.submit(held["session_id"], *commands("admin:somebody", Suspend()))
            return held["session_id"], held["access_token"], cookies

        async def reason(session_id):
            return (await services.sessions.load(session_id)).reason

        session_id, token, cookies = await paused()
        main = "__Host-interlock"
        for path in ("/api/session", "/api/forward-auth", "/api/sessions"):
            answer, _ = await ask("GET", path, cookies, token)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:interlock:problem:session-unusable"), path
        answer, _ = await ask("GET", "/api/forward-auth", cookies)
        assert answer.status_code == 403, answer
        answer, _ = await ask("POST", "/api/auth/refresh", cookies)
        assert answer.status_code == 403, answer
        assert await reason(session_id) is None
        # What shows a paused session: a bearer token, a cookie, or a marker alone.
        for path, body, status in (("/api/auth/login", ADA, 200), ("/api/session", None, 201), ("/api/auth/logout", None, 204)):
            for shown in ("bearer", "cookie", "marker"):
                session_id, token, cookies = await paused()
                marker = {name: value for name, value in cookies.items() if name.startswith(f"{main}-0")}
                sent = {"bearer": {}, "cookie": {main: cookies[main]}, "marker": marker}[shown]
                answer, _ = await ask("POST", path, sent, token if shown == "bearer" else None, body)
                assert answer.status_code == status, (path, shown, answer.text)
                assert await reason(session_id) == ("logout" if status == 204 else "replaced"), (path, shown)
        # Another session of the account ends it, as all others.
        session_id, _, _ = await paused()
        answer, cookies = await ask("POST", "/api/auth/login", {}, body=ADA)
        answer, _ = await ask("DELETE", f"/api/sessions/{session_id}", cookies, answer.json()["access_token"])
        assert (answer.status_code, await reason(session_id)) == (204, "revoked")
        # A page that looks at its session beside the cookie of a paused one is not hindered by it.
        session_id, _, cookies = await paused()
        answer, _ = await ask("POST", "/api/auth/login", {}, body=ADA)
        answer, _ = await ask("GET", "/api/session", cookies, answer.json()["access_token"])
        assert answer.status_code == 200, answer.text


async def main():
    async with services_in(Path(sys.argv[1])) as services:
        session, token = await log_in(services)
        def ask(data):
            return services.sessions.submit(session.session_id, *commands("admin:somebody", data))
        paused = (await ask(Suspend())).instance
        assert paused.state == "suspended"
        for refused in (Suspend(), Connect("tab", "node")):
            try:
                await ask(refused)
            except TransitionRefused as error:
                assert error.state == "suspended"
            else:
                raise AssertionError(refused)
        ensure_alive(paused, services.clock.now_ms())
        try:
            ensure_usable(paused, services.clock.now_ms())
        except SessionUnusable as error:
            assert error.state == "suspended"
        else:
            raise AssertionError("a paused session can be used")
        resumed = (await ask(Resume())).instance
        assert resumed.state == "authenticated"
        ensure_usable(resumed, services.clock.now_ms())
        await ask(Suspend())
        await page(services)
        print(session.session_id)

asyncio.run(main())
"""


def _apply(folder: Path, diff: str) -> None:
    """Apply the changes of ``diff``. The context of each must occur exactly once in its file."""
    for part in diff.split("--- ")[1:]:
        name, hunks = part.split("\n", 1)
        path = folder / name
        text = path.read_text(encoding="utf-8")
        for hunk in _HUNK.findall(hunks):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(before) == 1, f"{name} has this {text.count(before)} times:\n{before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")


def _run(folder: Path, *arguments: str, status: int = 0) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changed")
    copy_sources(folder, "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    blocks = re.findall(r"^```diff\n(.*?)^```", _GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        _apply(folder, block)
    _run(folder, "-m", "interlock.spec.export")
    return folder


def test_a_new_state_appears_in_everything_that_is_derived(changed: Path) -> None:
    _run(changed, "-m", "interlock.spec.export", "--check")
    for kind in ("json", "sql", "mmd", "svg", "md", "pml"):
        text = (changed / f"spec/generated/session.{kind}").read_text(encoding="utf-8")
        assert "suspended" in text
        assert "resume" in text


def test_the_model_tries_the_new_states_transitions(changed: Path) -> None:
    assert "holds" in _run(changed, "-m", "interlock.server.cli", "check", "--only", "replay")


def test_the_model_names_a_transition_that_can_not_happen(changed: Path, tmp_path: Path) -> None:
    """No connection is open in the new state, so there is no last one."""
    copy = tmp_path / "copy"
    shutil.copytree(changed, copy, symlinks=True)
    _apply(
        copy,
        """--- spec/session.py
@@
-        suspended.to(authenticated, cond="alive"),
+        suspended.to(authenticated, cond=["alive", "last_connection"]),
""",
    )
    said = _run(copy, "-m", "interlock.server.cli", "check", "--only", "replay", status=1)
    assert "resume (suspended → authenticated)" in said


def test_the_projects_own_tests_pass_with_the_new_state(changed: Path) -> None:
    tests = ["tests/machine/test_exhaustive.py", "tests/machine/test_story.py", "tests/spec/test_transitions.py"]
    said = _run(changed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *tests, "tests/spec/test_export.py")
    assert " passed" in said


def test_a_session_can_be_paused_resumed_and_replayed(changed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    session_id = _run(changed, "-c", _LIFE, str(data)).split()[-1]
    log = str(data / "interlock.db")
    assert "ok: " in _run(changed, "-m", "interlock.server.cli", "verify", log)
    told = _run(changed, "-m", "interlock.server.cli", "replay", session_id, "--data", str(data))
    assert "suspend (authenticated → suspended)" in " ".join(told.split())
