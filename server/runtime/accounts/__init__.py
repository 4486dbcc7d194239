"""Accounts: what is asked of them, logging in, their sessions, and what administrators do."""
