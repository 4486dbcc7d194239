"""Sessions: state, commands, WebSocket conversation and stream, and texts for people."""
