"""Pages for people: what a browser shows, and the files that they need. No rule is decided here."""
