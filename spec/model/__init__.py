"""What the whole system does, as a model and as traces: checked apart from the code that does it."""
