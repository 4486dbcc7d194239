"""The files that the guides install are accepted by the programs that read them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from interlock.server.settings import Settings
from interlock.server.system.descriptors import RESERVE
from tests.support.source import ROOT

DEPLOY: Final = ROOT / "docs/deploy"


def seconds(text: str, name: str) -> int:
    """Return the whole seconds that a file sets for ``name``."""
    found = re.search(rf"^\s*{name}[=:] *(\d+)s?$", text, re.MULTILINE)
    assert found, name
    return int(found[1])


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program, "the tests need systemd-analyze: make packages"
    unit = tmp_path / "interlock.service"
    command = str(Path(sys.executable).with_name("interlock"))
    unit.write_text((DEPLOY / "interlock.service").read_text().replace("/opt/interlock/.venv/bin/interlock", command))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "notice"}
    checked = subprocess.run(
        [program, "verify", "--man=no", unit], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    # It also reads the units of this machine, and speaks of those.
    assert [line for line in checked.stderr.splitlines() if unit.name in line or str(unit) in line] == []
    assert checked.returncode == 0, checked.stderr


def test_the_unit_gives_the_server_its_connections_and_the_time_to_drain() -> None:
    unit, settings = (DEPLOY / "interlock.service").read_text(), Settings()
    assert seconds(unit, "LimitNOFILE") >= settings.tcp_total + RESERVE
    assert seconds(unit, "TimeoutStopSec") > settings.drain_s
