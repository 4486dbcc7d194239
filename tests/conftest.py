"""Configuration of all tests."""

from __future__ import annotations

import functools
import os

import httpx._transports.default
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings


def pytest_configure() -> None:
    """Set up the process before test files are imported."""
    _choose_examples()
    _be_patient()


def _choose_examples() -> None:
    # ``quick`` is for the desk; its examples catch every mutant. ``thorough`` is for CI and derandomised, so that a red build
    # means a changed program, and is reproducible. New examples are searched at the desk, by ``make long`` with ``long``, and
    # .hypothesis keeps the findings.
    quick = settings(max_examples=50, stateful_step_count=30, deadline=None, print_blob=True)
    settings.register_profile("quick", quick)
    settings.register_profile("thorough", quick, max_examples=200, stateful_step_count=50, derandomize=True)
    settings.register_profile("long", quick, max_examples=2000, stateful_step_count=50)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def _be_patient() -> None:
    # A server on a busy machine may take longer than httpx's default of five seconds; a hanging one still fails.
    for wait in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, wait, 60)
    # Each new client reads every certificate authority, in 20 ms; thousands are created here, so read them once.
    transport = vars(httpx._transports.default)
    transport["create_ssl_context"] = functools.cache(transport["create_ssl_context"])
