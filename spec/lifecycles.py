"""Every declared lifecycle, read into rows once per process."""

from __future__ import annotations

from typing import Final

from spec.session import SessionGuards, SessionLifecycle
from spec.transitions import Lifecycle, read

SESSION: Final[Lifecycle] = read(SessionLifecycle, SessionGuards)
