"""The storage interfaces in one SQLite file."""
