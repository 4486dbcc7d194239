"""The vocabulary of the log: every event, and every field."""
