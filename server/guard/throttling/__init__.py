"""Rate limits by address, account and device."""
