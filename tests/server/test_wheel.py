"""What an installation adds beside other packages: one name, without conflicts."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.source import ROOT

_APPLICATION = """
import server, machine, spec
import interlock.server.app, interlock.machine.session.session, interlock.spec.lifecycles
from interlock import Context, Realm, testing
from interlock.store import SqlStore

assert (server.NAME, machine.NAME, spec.NAME) == ("server", "machine", "spec")
print(interlock.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.iterdir()
    return built


def test_a_wheel_holds_one_package_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read(next(name for name in names if name.endswith("METADATA"))))
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"interlock"}
    assert {
        "interlock/py.typed",
        "interlock/spec/model/door.pml",
        "interlock/testing/client.py",
        "interlock/spec/generated/session.svg",
    } <= set(names)
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_readme_in_a_wheel_renders_outside_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(
            archive.read(next(each for each in archive.namelist() if "METADATA" in each))
        )
    text = metadata.get_payload(decode=True)
    assert isinstance(text, bytes)
    readme, source = text.decode(), (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert links
    assert [each for each in links if not each.startswith("https://")] == []
    assert "the tutorial, the architecture or" in readme
    # Code stays as it is.
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert fence.findall(readme) == fence.findall(source) != []


def test_an_application_may_have_packages_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    """``pip install`` of a package called ``server`` once overwrote the application's own."""
    installed = tmp_path / "site"
    application = tmp_path / "application"
    for name in ("server", "machine", "spec"):
        (application / name).mkdir(parents=True)
        (application / name / "__init__.py").write_text(f"NAME = {name!r}\n")
    (application / "run.py").write_text(_APPLICATION)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*install, str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    told = subprocess.run(
        [sys.executable, "run.py"], cwd=application, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert Path(told.stdout.strip()).is_relative_to(installed)
    command = [str(installed / "bin" / "interlock"), "--version"]
    version = subprocess.run(command, cwd=application, env=environment, capture_output=True, text=True, check=False)
    assert version.returncode == 0, version.stderr
