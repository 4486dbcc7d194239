"""Event messages of the log, for back ends: read, streamed, and sent as webhooks."""
