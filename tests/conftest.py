"""What every test shares."""

from __future__ import annotations

import os

from hypothesis import settings

# ``quick`` is for the desk. ``thorough`` is for CI and derandomised: a red build then means a changed program, and the
# same build is red again; new examples are hunted at the desk, where what is found is kept in .hypothesis.
settings.register_profile("quick", max_examples=50, stateful_step_count=30, deadline=None, print_blob=True)
settings.register_profile(
    "thorough", max_examples=500, stateful_step_count=50, deadline=None, print_blob=True, derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
