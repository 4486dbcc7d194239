"""Entry point of ``python -m interlock.server.cli``."""

from interlock.server.cli.main import main

main()
