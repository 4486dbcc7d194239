"""What an owner recognises a session by: the name of its software, and its address."""
