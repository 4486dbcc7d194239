"""Accounts: their commands, their fold, and the commitments that bind records to personal data stored elsewhere."""
