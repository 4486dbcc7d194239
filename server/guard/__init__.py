"""Verification of credentials: passwords, tokens, keys. And limits on how often one may ask (throttling)."""
