"""Verification of credentials: passwords, tokens, keys."""
