"""Telemetry: logs and their declared events, metrics, spans, the model trace."""
