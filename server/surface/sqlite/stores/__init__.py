"""The rows that are written beside the log, in the same database file."""
