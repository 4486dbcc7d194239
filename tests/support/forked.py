"""``interlock`` as a process forked from one that has imported it, since most of the start-up time is imports.

A build that starts it some hundred times saves minutes. Everything after the imports is the same: the command line, the
settings and the files are read. Benchmarks, the examples of the documentation, and tests of signals and standard streams
(:mod:`tests.support.started`) start it from nothing, as a user does.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

_PRELOADED = [
    "interlock.server.cli",
    "interlock.server.telemetry.logs",
    "interlock.server.process",
    "interlock.server.cli.tour",
    "tests.support.warm",
]


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    atexit.register(_end_what_is_left)
    return context


def as_it_is() -> None:
    """Change nothing; the default."""


class Forked:
    """``interlock ARGUMENTS`` in ``environment``, with standard error in the file ``log``. Like a ``subprocess.Popen``.

    ``prepare`` is called in the process before it runs.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        prepare: Callable[[], None] = as_it_is,
    ) -> None:
        reader, writer = _context().Pipe(duplex=False)
        # A daemon, because multiprocessing would wait for any other at the end of the tests.
        self._process = _context().Process(
            target=_run, args=(arguments, environment, log, writer, prepare), daemon=True
        )
        self._process.start()
        writer.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdout: IO[str] = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    def wait(self, timeout: float) -> int:
        """Return its exit status, or the negative number of the signal that ended it.

        Raises:
            TimeoutExpired: it has not ended within ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("interlock", timeout)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        # It may have just ended by itself.
        with suppress(ProcessLookupError):
            if self._process.exitcode is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _end_what_is_left() -> None:
    """Kill what a failed test left behind: it may ignore SIGTERM, and multiprocessing would wait for ever."""
    for process in multiprocessing.active_children():
        process.kill()


def _run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    stdout: Connection,
    prepare: Callable[[], None],
) -> None:
    _forget_the_imports()
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    error = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(error, 2)
    os.close(error)
    os.environ.clear()
    os.environ.update(environment)
    # Under nohup the tests ignore it, and so would the server.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    from interlock.server.cli.main import main

    prepare()
    main(arguments, prog_name="interlock")


def _forget_the_imports() -> None:
    """Clear what coverage has of the imports: the process that this one was forked from saves it, and each other need not."""
    if (coverage := sys.modules.get("coverage")) is not None and (measuring := coverage.Coverage.current()) is not None:
        measuring._collector._clear_data()
