"""HTTP and WebSocket endpoints. They carry intent and context, and hold no rules."""
