"""Fuzzing of every parser of untrusted input: ``python -m tests.fuzz --seconds 300``."""
