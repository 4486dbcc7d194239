"""HTTP and WebSocket: intent and context, no rules."""
