"""Signing keys: files, key ring, rotation, and the signed head of the log."""
