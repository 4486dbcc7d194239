"""The surface in one SQLite file."""
