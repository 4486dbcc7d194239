"""Seeded bugs. A bug that survives is a gap in the specification. Those of the real code are in ``tests/mutants/``."""
