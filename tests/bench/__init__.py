"""Measures the promised figures: ``python -m tests.bench``, or ``make bench``."""
