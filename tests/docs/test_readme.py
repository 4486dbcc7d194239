"""The README agrees with the program."""

from __future__ import annotations

from interlock.server.cli.tour import TOUR
from interlock.server.settings import Settings
from tests.support.source import ROOT


def test_the_readmes_tour_is_the_one_that_serve_prints() -> None:
    """``make run`` prints it, tests/scenarios/test_tour.py pastes it into a shell."""
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- tour: server/cli/tour.py -->\n```bash\n")
    tour, _, _ = rest.partition("```\n<!-- /tour -->")
    defaults = Settings()
    assert tour == TOUR.format(url=f"http://{defaults.host}:{defaults.port}", python=".venv/bin/python")
