"""Open WebSockets: each moves the messages of one conversation, and answers its requests."""
