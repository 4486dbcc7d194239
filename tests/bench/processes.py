"""Server processes: started as a user starts them, pinned to a core, stopped in any case."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from tests.bench.figure import Bench, BenchError, cores
from tests.support import server as unlimited

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
UNLIMITED = tuple(
    part for name, value in unlimited.UNLIMITED.items() for part in (f"--{name.replace('_', '-')}", str(value))
)
"""Flags that lift the limits of an address, because a whole load comes from one."""

_LOAD = Path(__file__).with_name("load.lua")


class Process(msgspec.Struct, frozen=True):
    """A running server. ``ready_s``: from the start of the process to the first 200 of /health/ready."""

    pid: int
    url: str
    ready_s: float


@contextmanager
def running(
    bench: Bench, module: str, *arguments: str, pinned: bool = True, cheap_passwords: bool = True
) -> Iterator[Process]:
    """Run ``python -m module arguments``, which prints its address, until the context ends."""
    errors = bench.folder / f"{module}.{time.monotonic_ns()}.stderr"
    began = time.perf_counter()
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1" if cheap_passwords else "0"},
        )
    try:
        if pinned:
            os.sched_setaffinity(process.pid, cores()[0])
        # A server that hangs at its start is killed, which ends the read below.
        watchdog = threading.Timer(_START_TIMEOUT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        words = process.stdout.readline().split()
        watchdog.cancel()
        if not words:
            raise BenchError(f"{module} did not start: {errors.read_text()[-2000:]}")
        url = next(word for word in words if word.startswith("http://"))
        yield Process(process.pid, url, _ready(url, began))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def interlock(bench: Bench, data: Path, *flags: str, pinned: bool = True) -> Iterator[Process]:
    """Run ``interlock serve`` with its defaults on a free port, but without limits of an address."""
    arguments = ("--port", "0", "--data", str(data), *UNLIMITED, *flags)
    with running(bench, "interlock.server.cli", "serve", *arguments, pinned=pinned) as process:
        yield process


def _ready(url: str, began: float) -> float:
    """Wait until /health/ready is 200. Return the seconds since ``began``."""
    address = urlsplit(url)
    while time.perf_counter() < began + _START_TIMEOUT_S:
        connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=_START_TIMEOUT_S)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return time.perf_counter() - began
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.002)
    raise BenchError(f"{url} was not ready in time")


def open_files(wanted: int) -> None:
    """Raise this process's limit of open files, which its children inherit.

    Raises:
        BenchError: the system does not allow that many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} open files are needed and {hard} allowed; raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Loaded:
    """A server under load, turn by turn. ``per_cpu_s``: requests per second of processor time in a turn.

    On a shared machine, a rate depends on other load; this is the cost of a request.
    """

    def __init__(self, process: Process, path: str, *, seconds: int, **options: Any) -> None:
        self.per_cpu_s: list[float] = []
        self._process = process
        self._url = process.url + path
        self._seconds = seconds
        self._options = options

    async def rate(self) -> float:
        """Measure one turn: requests per second."""
        before = cpu_s(self._process.pid)
        rate = load(self._url, seconds=self._seconds, **self._options)
        self.per_cpu_s.append(rate * self._seconds / (cpu_s(self._process.pid) - before))
        return rate


class Side(Protocol):
    """One side of a comparison. ``per_cpu_s`` as in :class:`Loaded`."""

    per_cpu_s: list[float]


def per_cpu_second(ours: Side, ceiling: Side) -> str:
    """Compare both by processor time, all threads counted."""
    a, b = statistics.median(ours.per_cpu_s), statistics.median(ceiling.per_cpu_s)
    return f"per second of processor time, all threads: {a:,.0f} to {b:,.0f}, {a / b:.2f}"


def cpu_s(pid: int) -> float:
    """Return the processor time that ``pid`` has used so far, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(
    url: str,
    *,
    method: str = "GET",
    tokens: Path | None = None,
    cookies: bool = False,
    connections: int = 32,
    seconds: int = 2,
) -> float:
    """Return how many requests per second ``url`` answers with 2xx to wrk, whose connections never pause.

    ``tokens``: a file of access tokens, one a line, used in turn; with ``cookies`` of refresh tokens, sent in the cookie.

    Raises:
        BenchError: wrk is missing, or a request failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("wrk, the load generator, is missing: apt-get install wrk")
    client = ",".join(map(str, sorted(cores()[1])))
    options = ["-t1", "--timeout", "30s", f"-c{connections}", f"-d{seconds}s", "-s", str(_LOAD), url, "--", method]
    if tokens is not None:
        options += [str(tokens), "cookie" if cookies else "bearer"]
    answer = subprocess.run(
        ["taskset", "-c", client, wrk, *options],  # noqa: S607  # the system's taskset
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 30,
    )
    output = answer.stdout + answer.stderr
    if answer.returncode or "Non-2xx" in output or "Socket errors" in output:
        raise BenchError(f"wrk on {url}: {output}")
    return float(next(line for line in output.splitlines() if line.startswith("Requests/sec:")).split()[1])
