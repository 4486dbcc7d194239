"""Requests that this server sends to other machines: where they may go, how they are signed, and the client that sends them."""
