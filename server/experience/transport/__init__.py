"""HTTP/1.1 and WebSocket on a TCP connection: what a stranger sends passes here first.

httptools (llhttp) parses requests, picows frames. ``reader`` cuts a connection's bytes into requests; ``http`` is a connection
that answers them; ``exchange`` is one request and its response as ASGI; ``websocket`` is what a connection becomes after an
accepted handshake. ``server`` listens. Nothing else imports httptools or picows.
"""
