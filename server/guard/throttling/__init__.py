"""How often somebody may try: by address, account and device."""
