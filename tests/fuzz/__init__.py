"""Fuzzing of everything that reads what a stranger sent: ``python -m tests.fuzz --seconds 300``."""
