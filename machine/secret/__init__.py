"""Secrets: what the log holds of each, and the authority of whoever shows one."""
