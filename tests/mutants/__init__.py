"""Mutants: bugs seeded into the real code, each of which a named property must catch (``python -m tests.mutants``)."""
