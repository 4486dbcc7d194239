"""Sessions: state, commands, WebSocket conversation, and texts for people."""
