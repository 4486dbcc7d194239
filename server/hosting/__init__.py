"""The process's place on its machine: sockets to listen on, and the service manager. No rule is decided here."""
