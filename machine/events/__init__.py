"""Event messages: what a back end learns of the log, and the scopes that limit it."""
