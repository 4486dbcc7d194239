"""A server with standard streams of the test's choice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.metrics import Scrape
from tests.support.ports import KeptPort
from tests.support.running import until
from tests.support.server import UNLIMITED

LIMIT_S = 300
"""Limit against hanging."""


class Started:
    """``interlock serve``, run by ``before``, with ``streams`` like those of :class:`subprocess.Popen`. It logs JSON lines."""

    def __init__(self, data: Path, before: Sequence[str], streams: Mapping[str, Any]) -> None:
        self._port, self._metrics = KeptPort(), KeptPort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        values = {"data": data, "port": self._port.number, "metrics-port": self._metrics.number, **UNLIMITED}
        flags = [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        command = [
            # Under nohup the tests ignore SIGHUP, and so would the server.
            "env",
            "--default-signal=HUP",
            *before,
            sys.executable,
            "-m",
            "interlock.server.cli",
            "serve",
            "--log-json",
            "--access-log",
            *flags,
        ]
        environment = {**os.environ, "INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1"}
        self.process = subprocess.Popen(command, env=environment, **streams)

    def ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/health/ready").status_code == 200
            return False

        until(answers, LIMIT_S)

    def metrics(self) -> Scrape:
        return Scrape(httpx.get(f"http://127.0.0.1:{self._metrics.number}/metrics").text)

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)


@contextmanager
def started(data: Path, before: Sequence[str] = (), **streams: Any) -> Iterator[Started]:
    """Start a server. Kill it at the end of the context, if it still runs."""
    server = Started(data, before, streams)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def read_all(descriptor: int, text: bytearray) -> None:
    """Read into ``text`` until the end, which a terminal reports as an error."""
    with suppress(OSError):
        while part := os.read(descriptor, 65536):
            text += part
