"""The session: its state, its commands, and the words for what happens to it."""
