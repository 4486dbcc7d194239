"""What operators hear of the server: logs and their declared events, metrics, spans, the model's trace."""
