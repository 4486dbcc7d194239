"""A real server process, started as a user would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from interlock.spec.model.trace.checker import Summary, check
from tests.support.forked import Forked, as_it_is
from tests.support.ports import KeptPort

START_TIMEOUT_S = 120.0

UNLIMITED = {
    "rate_limit_exempt": "",
    "limit_address": "off",
    "limit_account": "off",
    "limit_intent": "off",
    "limit_session_create": "off",
    "limit_anonymous": "off",
    "limit_register": "off",
    "limit_login_address": "off",
    "limit_login_client": "off",
    "limit_login_account": "off",
    "limit_password": "off",
    "limit_frames": "off",
    "refusal_delay_s": 0,
    "tcp_per_address": 100_000,
    "connections_per_account": 100_000,
}
"""Tests are one fast client. A test of a limit sets that limit."""


def new_trace(data: Path) -> Path:
    """Return a file for the trace of a server over folder ``data``: in TEST_TRACES if set, else beside it."""
    folder = os.environ.get("TEST_TRACES")
    return (Path(folder).resolve() if folder else data.parent) / f"{data.name}-{uuid4().hex}.jsonl"


def check_trace(*traces: Path) -> Summary:
    """Check the traces of the nodes of one log."""
    with ExitStack() as stack:
        return check([stack.enter_context(trace.open("rb")) for trace in traces])


class ServerProcess:
    """``interlock serve`` on a reserved port. ``url`` is its base URL; ``log_path`` holds its standard error.

    ``trace`` is the file of its trace, the same after a restart; with the setting ``model_trace=""`` it writes none. With
    ``cheap_passwords`` set to False before the start, hashes have production cost.
    """

    prepare: Callable[[], None] = staticmethod(as_it_is)
    """What to call in the forked process before it runs: faults to put in, or another environment around the server."""

    probe = "/health/ready"
    """The path that answers 200 once it has started."""

    forked = True
    """Whether to fork it from a process that has imported it (:class:`Forked`), or to start it as a user does."""

    def __init__(self, data: Path, settings: dict[str, Any]) -> None:
        self.data = data
        self.url = ""
        self.cheap_passwords = True
        self.log_path = data.with_name(f"{data.name}.stderr")
        self.started_in_s = 0.0
        self.trace = new_trace(data)
        self._port = KeptPort(settings.get("host", "127.0.0.1"))
        self._settings = {"port": self._port.number, "model_trace": self.trace, **UNLIMITED, **settings}
        self.process: subprocess.Popen[str] | Forked | None = None

    @property
    def socket_url(self) -> str:
        return self.url.replace("http://", "ws://") + "/api/connect"

    @property
    def database(self) -> Path:
        return self.data / "interlock.db"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *once: str) -> None:
        """Start and wait until it answers; a second start is a restart on the same data and port.

        ``once``: flags for this start only.
        """
        flags = [
            part
            for name, value in self._settings.items()
            for part in (
                (f"--{name.replace('_', '-')}", str(value))
                if not isinstance(value, bool)
                else (f"--{'' if value else 'no-'}{name.replace('_', '-')}",)
            )
        ]
        began = time.monotonic()
        arguments = ["serve", "--data", str(self.data), *flags, *once]
        environment = {**os.environ, "INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1" if self.cheap_passwords else "0"}
        if self.forked:
            self.process = Forked(arguments, environment, self.log_path, self.prepare)
        else:
            with self.log_path.open("a") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "interlock.server.cli", *arguments],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=environment,
                )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Interlock listens on "), self.log_path.read_text()
        self.url = line.split()[3]
        while time.monotonic() < began + START_TIMEOUT_S:
            try:
                if httpx.get(f"{self.url}{self.probe}").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.005)
        else:
            raise AssertionError(f"not ready within {START_TIMEOUT_S} s: {self.log_path.read_text()}")
        self.started_in_s = time.monotonic() - began

    def kill(self) -> None:
        """Kill it: like a power cut for the process, without any clean-up."""
        self._end(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it by SIGTERM and return its exit status."""
        return self._end(number)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(timeout=90)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def running_server(data: Path, **settings: Any) -> Iterator[ServerProcess]:
    """Run a server with ``settings`` (by setting name) over folder ``data``, until the context ends; then check its trace."""
    server = ServerProcess(data, settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        # Even after a failure: the trace may show the cause.
        if server.trace.exists():
            check_trace(server.trace)
