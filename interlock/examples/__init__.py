"""Realms to look at and to try: ``interlock serve --demo`` serves both."""
