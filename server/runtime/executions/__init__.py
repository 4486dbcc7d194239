"""Executions: their acceptance, their runs by the realms' code, and their outcomes."""
