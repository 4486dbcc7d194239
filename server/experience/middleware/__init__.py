"""Middleware of every request: id, headers, query, body."""
