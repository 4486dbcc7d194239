"""What happens around every request: its id, its headers, its query, its body."""
