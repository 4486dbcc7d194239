"""HTTP and WebSocket endpoints. They translate: the rules are in :mod:`interlock.machine` and the runtime."""
