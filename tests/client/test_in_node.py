"""The browser client without a browser: its core in Node, its types, its size, and that it is what the sources make."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Final

import httpx
import pytest

from interlock.server.experience.client import declared
from tests.support.server import running_server
from tests.support.source import ROOT
from tests.support.typescript import CLIENT, compiled, node

MOST_BYTES: Final = 6 * 1024

RIGHT: Final = """
const visitor = await open();
const session = visitor.session ?? (await visitor.login({ email: "", password: "" }));
const socket = await session.connect({ signal: AbortSignal.timeout(1) });
const run = socket.intent<{ note_id: number }, string>("notes.create", { text: "hello" });
for await (const part of run.progress) part.length;
const outcome = await run.outcome;
if (outcome.state === "succeeded") outcome.result.note_id;
session.addEventListener("trouble", (event) => event.detail.retry_after);
session.ended.then(({ reason }) => reason === "replaced");
"""

WRONG: Final = {
    "early": ("(await open()).connect();", "Property 'connect' does not exist on type 'Visitor'"),
    "unasked": ("(await open()).session.connect();", "possibly 'null'"),
    "unconnected": (
        "(await (await open()).loggedIn()).intent('x');",
        "Property 'intent' does not exist on type 'Session'",
    ),
    "misspelt": ("(await (await open()).loggedIn()).ended.then(({ why }) => why);", "Property 'why' does not exist"),
}
"""Programs, and what tsc says of each."""


@pytest.mark.parametrize("name", ["core", "dialogues", "tabs"])
def test_the_core_in_node(name: str) -> None:
    ran = node("--test", f"client/{name}.test.mjs")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_a_page_loads_is_at_most_6_kib(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        answer = httpx.get(f"{server.url}/client/interlock.js", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text == (CLIENT / "interlock.js").read_text()
    assert int(answer.headers["content-length"]) == len(gzip.compress(answer.content, 9, mtime=0)) <= MOST_BYTES
    assert "import" not in answer.text.replace("import.meta.url", ""), "it loads nothing else"


def test_the_committed_files_are_what_the_sources_make(tmp_path: Path) -> None:
    assert declared.main(["--check"]) == 0
    bundled = node("bundle.mjs", "--check")
    assert bundled.returncode == 0, bundled.stderr
    (tmp_path / "source").mkdir()
    assert declared.main([], tmp_path) == 0
    assert declared.main(["--check"], tmp_path) == 0
    (tmp_path / "source" / "declared.js").write_text("export const CLOSES = {};")
    assert declared.main(["--check"], tmp_path) == 1


def test_a_program_that_connects_before_a_login_does_not_compile(tmp_path: Path) -> None:
    said = compiled(tmp_path, {"right": RIGHT, **{name: program for name, (program, _) in WRONG.items()}})
    errors = [line for line in said if not line.startswith(" ")]
    assert {Path(line.partition("(")[0]).stem for line in errors} == set(WRONG), said
    for name, (_, why) in WRONG.items():
        assert any(f"{name}.ts" in line and why in line for line in errors), errors


def test_the_package_for_npm_has_the_module_and_its_types(tmp_path: Path) -> None:
    command = ["make", "--silent", "npm", f"DESTINATION={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    (packed,) = (path for path in tmp_path.glob("*.tgz") if "backend" not in path.name)
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    assert names == {"package.json", "interlock.js", "interlock.d.ts", "declared.d.ts"}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert json.loads((CLIENT / "package.json").read_text())["version"] == version
