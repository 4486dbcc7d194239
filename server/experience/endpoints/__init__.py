"""The HTTP endpoints, one file per group of calls."""
