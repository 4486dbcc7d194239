"""Secrets: keys, and the secrets of administrators and clients, as the log records them."""
