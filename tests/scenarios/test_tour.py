"""The tour that ``make run`` prints works as it is, in a plain shell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock.server.cli.tour import TOUR
from tests.support.log import histories, verify
from tests.support.running import eventually, run
from tests.support.server import check_trace, new_trace
from tests.support.source import ROOT


@pytest.mark.slow
def test_the_printed_tour_works_as_it_is(data: Path, tmp_path: Path) -> None:
    """A new user pastes it: an anonymous session, a login on it, hello, the history, and the end, with its close."""
    bash = shutil.which("bash")
    assert bash
    printed = tmp_path / "printed"
    trace = new_trace(data)
    with printed.open("w") as output:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "interlock.server.cli",
                "serve",
                "--demo",
                "--data",
                str(data),
                "--port",
                "0",
                "--model-trace",
                str(trace),
            ],
            stdout=output,
            cwd=ROOT,
            env={**os.environ, "INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1"},
        )
    try:
        run(eventually(lambda: "wait $!\n)\n\n" in printed.read_text(), 30))
        _, rule, tour = printed.read_text().partition("copy and paste")
        assert rule
        tour = tour.partition("\n")[2].rpartition("wait $!\n)\n")[0] + "wait $!\n)\n"
        for again in range(2):
            walked = subprocess.run(
                [bash], input=tour, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True
            )
            assert walked.stderr == ""
            check(walked.stdout.splitlines(), again=bool(again))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    verify(data)
    check_trace(trace)
    ends = [history[-1]["data"].get("reason") for history in histories(data).values()]
    assert ends.count("revoked") == 3  # the socket's two, and the first tour's login elsewhere
    assert not list(tmp_path.glob("*.json"))


def test_the_tour_says_what_to_do_when_nothing_answers() -> None:
    bash = shutil.which("bash")
    assert bash
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        tour = TOUR.format(url=url, python=sys.executable)
        assert tour.count("--retry 30 ") == 1
        impatient = tour.replace("--retry 30 ", "--retry 1 ")
        walked = subprocess.run([bash], input=impatient, capture_output=True, text=True, timeout=60, check=False)
    assert walked.stdout == f"nothing answers at {url}: start `make run`, or set URL\n"
    assert walked.stderr == ""


def check(lines: list[str], *, again: bool) -> None:
    """Check the tour's output line by line."""
    said = [line.removeprefix("socket: ") for line in lines if line.startswith("socket: ")]
    session, account, login, asked, transitions, ended = (
        json.loads(line) for line in lines if not line.startswith("socket: ")
    )
    hello, *pushed = (json.loads(line) for line in said[:-1])
    assert session["state"] == "created"
    assert account["status" if again else "email"] == (409 if again else "ada@example.org")
    assert (login["state"], login["session_id"]) == ("authenticated", session["session_id"])
    assert (hello["type"], hello["state"], hello["session_id"]) == ("hello", "connected", session["session_id"])
    assert events(transitions) == ["create", "authenticate", "connect"]
    assert ended["ended"] == (2 if again else 1)
    assert ended["receipt"]["position"] >= pushed[-1]["position"]
    about = [message for message in pushed if message.get("intent_id") == asked["intent_id"]]
    assert about[0]["type"] == "accepted"
    assert "".join(part for each in about if each["type"] == "progress" for part in each["data"]).startswith(
        "You asked:"
    )
    assert (about[-1]["type"], about[-1]["state"]) == ("outcome", "succeeded")
    assert events([message for message in pushed if message["type"] == "transition"]) == ["revoke"]
    assert said[-1] == "closed, 4403 session ended: revoked"


def events(records: list[dict[str, Any]]) -> list[str]:
    """Return the event of each record."""
    return [record["event"] for record in records]
