"""The tour that ``make run`` prints: shell commands from the first page load to the end of a session, to copy and paste."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from interlock.server.settings import Settings
from interlock.server.system.streams import printable

TOUR = """\
URL={url} PY={python}
(  # in a subshell, so that `exit` ends the tour and not your shell
curl -s -o /dev/null --retry 30 --retry-delay 1 --retry-connrefused $URL/health/live ||
  {{ echo "nothing answers at $URL: start \\`make run\\`, or set URL"; exit 1; }}

# 1. A page loads: an anonymous session begins
SESSION=$(curl -s -X POST $URL/api/session); echo "$SESSION"

# 2. Register an account
ADA='{{"email": "ada@example.org", "password": "correct horse battery staple"}}'
echo "$(curl -s $URL/api/auth/register -H 'Content-Type: application/json' -d "$ADA")"

# 3. Log in: the same session becomes the account's
bearer() {{ "$PY" -c 'import json, sys; print("Authorization: Bearer", json.loads(sys.argv[1])["access_token"])' "$1"; }}
LOGIN=$(curl -s $URL/api/auth/login -H "$(bearer "$SESSION")" -H 'Content-Type: application/json' -d "$ADA"); echo "$LOGIN"

# 4. Open a WebSocket in the background: the server says hello, then pushes every transition
"$PY" -c '
import sys
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
url, bearer = sys.argv[1:]
address, headers = url.replace("http", "ws", 1) + "/api/connect", [bearer.split(": ", 1)]
with connect(address, additional_headers=headers, subprotocols=["interlock.v1"]) as socket:
    try:
        while True:
            print("socket: " + socket.recv() + "\\n", end="", flush=True)
    except ConnectionClosed as closed:
        print("socket: closed,", closed.rcvd.code, closed.rcvd.reason)
' $URL "$(bearer "$LOGIN")" &
for _ in $(seq 150); do
  curl -s $URL/api/session -H "$(bearer "$LOGIN")" | grep -q '"state":"connected"' && break; sleep 0.2
done

# 5. Ask the agent, a realm of the demo: what it says and its outcome arrive over the socket
ASK='{{"id": "'$(date +%s%N)'", "name": "agent.ask", "parameters": {{"question": "What is a fence?"}}}}'
echo "$(curl -s $URL/api/intents -H "$(bearer "$LOGIN")" -H 'Content-Type: application/json' -d "$ASK")"
for _ in $(seq 150); do
  curl -s $URL/api/executions -H "$(bearer "$LOGIN")" | grep -qE '"state":"(accepted|running)"' || break; sleep 0.2
done
sleep 1  # in its first second, a socket waits for a client that resumes

# 6. Read everything that happened to the session, as recorded
echo "$(curl -s $URL/api/session/transitions -H "$(bearer "$LOGIN")")"

# 7. Log in from another device and end all other sessions: the socket is notified and closes with 4403
ELSEWHERE=$(curl -s $URL/api/auth/login -H 'Content-Type: application/json' -d "$ADA")
echo "$(curl -s -X DELETE $URL/api/sessions -H "$(bearer "$ELSEWHERE")")"; wait $!
)
"""
"""Shell commands with two placeholders: ``url``, and ``python``, an interpreter with websockets. The README has the same
text; a test runs it."""


def print_next(console: Console, url: str, settings: Settings) -> None:
    """Print where the server at ``url`` keeps its data, which pages may call it, and what to do next."""
    data = escape(printable(str(Path(settings.data).absolute())))
    origins = escape(", ".join(settings.origins)) or "only the server's own; pages of others need --origins"
    see = f"see it work: interlock top --data {escape(shlex.quote(settings.data))}"
    browser = f"open {url}/{'demo' if settings.demo else ''} in a browser, or " if url.startswith("http") else ""
    for name, what in (
        ("data", data),
        ("origins", origins),
        ("next", browser + see),
        ("", "anything off? interlock doctor; an administrator: interlock admin-token create NAME"),
    ):
        console.print(f"  [dim]{name:<8}[/dim] {what}", soft_wrap=True)


def print_tour(console: Console, url: str) -> None:
    """Print the tour for the server at ``url``."""
    console.rule("a tour from the first page load to the end of a session: copy and paste")
    console.print(TOUR.format(url=url, python=shlex.quote(sys.executable)), markup=False, soft_wrap=True)
    console.rule()
