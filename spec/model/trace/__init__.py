"""Traces of real servers: their format, the rules for them, and the questions to the model."""
