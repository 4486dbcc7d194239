"""Measures behind the requirements of the OWASP ASVS, removed one by one: a test of the requirement must fail."""
