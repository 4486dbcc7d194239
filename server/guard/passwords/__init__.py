"""Passwords: rules, blocklist, and hashing in threads, in a fair order."""
