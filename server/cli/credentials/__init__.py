"""Commands for the secrets of other software, and for webhooks."""
