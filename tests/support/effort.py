"""How often tests repeat what depends on chance."""

from __future__ import annotations

import os
from typing import Final

LONG: Final = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""Whether ``make long`` runs them."""


def often(usual: int, long: int) -> int:
    """Return how often to repeat it: in ``make test``, and in ``make long``."""
    return long if LONG else usual
