"""Passwords: rules, blocklist, and hashing in threads with a fair queue."""
