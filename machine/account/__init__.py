"""Accounts: what is asked of one, its fold, and how it is bound to the personal data that no record holds."""
