"""Executions: their commands and their fold. A record holds no parameters and no results, only commitments to them."""
