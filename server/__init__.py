"""The server: runs the lifecycles over disk and network."""
