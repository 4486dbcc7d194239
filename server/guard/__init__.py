"""Proves who is calling: passwords, tokens, keys."""
