"""The browser client: an ES module that pages load, and its types. No rule is decided here."""
