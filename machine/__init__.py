"""The rules of every lifecycle, as pure functions: no clock, no randomness, no I/O."""
