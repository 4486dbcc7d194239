"""``interlock sessions``, ``accounts`` and ``executions``: lists from the log's file, and acts through the running server."""
