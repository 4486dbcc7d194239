"""Identity providers: their keys and their ID tokens."""
