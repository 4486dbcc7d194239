"""Clients that generators make of the served OpenAPI document type-check, and complete the tour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from interlock.server.guard.secrets import Secrets
from tests.docs.pages import ROOT, captioned
from tests.support.admin import admin_token
from tests.support.errands import REALM
from tests.support.server import ServerProcess, running_server

PAGE: Final = "how-to/generate-a-client.md"
BIN: Final = Path(sys.executable).parent
JAVASCRIPT: Final = ROOT / "tests/javascript"
TOUR: Final = ROOT / "tests/support/generated_tour.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("clients") / "data", realm=REALM) as process:
        yield process


@pytest.fixture(scope="module")
def arguments(server: ServerProcess) -> list[str]:
    """Return the arguments of both tours."""
    return [server.url, admin_token(server.data), Secrets(server.data / "keys", "client").create("gateway", 1)]


def ran(folder: Path, command: list[str] | str, url: str = "", **environment: str) -> str:
    """Run ``command`` in ``folder``, and return its output. It must succeed."""
    path = f"{BIN}:{folder / 'node_modules/.bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "URL": url, "NO_COLOR": "1", **environment},
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_python_client_makes_the_whole_tour(server: ServerProcess, arguments: list[str], tmp_path: Path) -> None:
    ran(tmp_path, captioned(PAGE, "Generate the Python client"), server.url)
    example = tmp_path / "example.py"
    example.write_text(captioned(PAGE, "example.py"))
    package = tmp_path / "interlock-client"
    strict = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        f"--config-file={os.devnull}",
        str(package / "interlock_client"),
    ]
    ran(tmp_path, [*strict, str(example), str(TOUR)], MYPYPATH=str(package))
    ran(tmp_path, [sys.executable, str(example), server.url], PYTHONPATH=str(package))
    tour = [sys.executable, str(TOUR), *arguments]
    assert ran(tmp_path, tour, PYTHONPATH=str(package)) == "the whole tour\n"


def test_the_typescript_client_makes_the_whole_tour(
    server: ServerProcess, arguments: list[str], tmp_path: Path
) -> None:
    for name in ("tour.ts", "tsconfig.json", "package.json"):
        shutil.copy(JAVASCRIPT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    ran(tmp_path, captioned(PAGE, "Generate the types for TypeScript"), server.url)
    (tmp_path / "example.ts").write_text(captioned(PAGE, "example.ts"))
    ran(tmp_path, ["tsc", "--project", "tsconfig.json"])
    said = ran(tmp_path, ["node", "example.js", server.url])
    assert said == "authenticated\nurn:interlock:problem:token-expired\n"
    assert ran(tmp_path, ["node", "tour.js", *arguments]) == "the whole tour\n"
