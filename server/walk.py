"""The walk that ``make run`` prints: from the first page load to an open socket and its end, to copy and paste."""

from __future__ import annotations

from rich.console import Console

WALK = """\
URL={url}

# 1. A page loads: an anonymous session, {{session_id, state: "created", access_token, refresh_token, …}}
curl -s -X POST $URL/api/session | tee session.json

# 2. Somebody makes an account
curl -s $URL/api/auth/register -H 'Content-Type: application/json' \\
  -d '{{"email": "ada@example.org", "password": "correct horse battery staple"}}'

# 3. … and logs in: the same session becomes theirs
token() {{ python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["access_token"])' "$1"; }}
curl -s $URL/api/auth/login -H "Authorization: Bearer $(token session.json)" -H 'Content-Type: application/json' \\
  -d '{{"email": "ada@example.org", "password": "correct horse battery staple"}}' | tee login.json

# 4. A WebSocket opens; the server says hello, then pushes every transition (in the background, so that you can go on)
curl -sN --no-buffer --http1.1 $URL/api/connect -H "Authorization: Bearer $(token login.json)" -H 'Connection: Upgrade' \\
  -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: SW50ZXJsb2NrIHdhbGsgIQ==' \\
  -H 'Sec-WebSocket-Protocol: interlock.v1' --output - & sleep 1

# 5. Everything that happened, as recorded
curl -s $URL/api/session/transitions -H "Authorization: Bearer $(token login.json)"

# 6. Log out: the socket above says so and closes with 4403
curl -s -X POST $URL/api/auth/logout -H "Authorization: Bearer $(token login.json)"; sleep 1
"""
"""Shell text with one blank, ``url``. The README's tour is this text; a test runs it."""


def print_walk(console: Console, url: str) -> None:
    """Print the walk for the server at ``url``."""
    console.rule("from first page load to an open socket: copy, paste")
    console.print(WALK.format(url=url), markup=False, soft_wrap=True)
    console.rule()
