"""Storage: the only code that opens the database."""
