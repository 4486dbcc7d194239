"""Accounts: their commands, logins, their sessions, and administration."""
