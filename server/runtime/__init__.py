"""The runtime: the only code that changes sessions and accounts. It does not depend on HTTP."""
