"""Signing keys: on disk, in memory, their rotation, and what they sign."""
