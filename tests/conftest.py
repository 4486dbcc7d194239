"""What every test shares."""

from __future__ import annotations

import functools
import os

import httpx._transports.default
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings


def pytest_configure() -> None:
    """Set what holds in the whole process, before files of tests are imported."""
    _choose_examples()
    _be_patient()


def _choose_examples() -> None:
    # ``quick`` is for the desk. ``thorough`` is for CI and derandomised: a red build then means a changed program, and the
    # same build is red again; new examples are hunted at the desk, where what is found is kept in .hypothesis.
    quick = settings(max_examples=50, stateful_step_count=30, deadline=None, print_blob=True)
    settings.register_profile("quick", quick)
    settings.register_profile("thorough", quick, max_examples=500, stateful_step_count=50, derandomize=True)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def _be_patient() -> None:
    # A server on a busy machine may take longer than the five seconds that httpx waits unasked; what hangs fails all the same.
    for wait in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, wait, 60)
    # A client reads every certificate authority when it is made, in 20 ms; thousands are made here. Once is enough.
    transport = vars(httpx._transports.default)
    transport["create_ssl_context"] = functools.cache(transport["create_ssl_context"])
