"""The README and the page for contributors agree with the program."""

from __future__ import annotations

import re
import shutil
import subprocess

from interlock.server.cli.tour import TOUR
from interlock.server.settings import Settings
from tests.support.source import ROOT


def test_the_readmes_tour_is_the_one_that_serve_prints() -> None:
    """``make run`` prints it, tests/scenarios/test_tour.py pastes it into a shell."""
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- tour: server/cli/tour.py -->\n```bash\n")
    tour, _, _ = rest.partition("```\n<!-- /tour -->")
    defaults = Settings()
    assert tour == TOUR.format(url=f"http://{defaults.host}:{defaults.port}", python=".venv/bin/python")


def test_make_help_and_contributing_list_the_same_commands() -> None:
    make = shutil.which("make")
    assert make
    said = subprocess.run([make, "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    table = re.findall(r"^\| (`make .+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    listed = re.findall(r"`(make [a-z-]+)`", " ".join(table))
    assert len(listed) > 10
    assert sorted(re.findall(r"^make [a-z-]+", said, re.MULTILINE)) == sorted(listed)
