"""``interlock tail`` and ``top``: what the server records, as it does."""
