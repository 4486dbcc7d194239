"""HTTP/1.1 and WebSocket on a TCP connection: the first code that untrusted bytes reach.

httptools (llhttp) parses requests, picows frames. ``reader`` splits a connection's bytes into requests; ``http`` is a
connection that answers them; ``exchange`` is one request and its response as ASGI; ``websocket`` is a connection after an
accepted handshake. ``server`` listens. Nothing else imports httptools or picows.
"""
