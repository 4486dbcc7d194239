"""What the requirements of the OWASP ASVS rest on, taken away one by one: each must be missed by a test of that requirement."""
