"""File descriptors: how many this process may have, and how many connections fit.

Each connection takes one. A process without free descriptors can neither accept connections nor open its own files. So the
soft limit is raised to the hard one at the start, and connections are capped below it.
"""

from __future__ import annotations

import fcntl
import os
import resource
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from interlock.machine.errors import SettingsError
from interlock.server.settings import Settings

RESERVE: Final = 128
"""Descriptors that no connection takes. Event loop, listeners, database, lock, trace and standard streams are about 25; the
others are temporary: key scans, the next head, a scrape, calls to an identity provider or a collector with DNS, imports at
first use, and the two or three connections that are accepted before they are cut."""

_log = structlog.get_logger("interlock.server")


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # The kernel refuses a hard limit above fs.nr_open, which may have been lowered since.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def effective_tcp_total(settings: Settings, open_files: int) -> int:
    """Return how many TCP connections each port may hold: ``tcp_total``, or as many as ``open_files`` leave.

    Raises:
        SettingsError: there is not one for each port.
    """
    ports = 1 if settings.metrics_port is None else 2
    if open_files < RESERVE + ports:
        raise SettingsError(
            f"this process may have {open_files} open files (RLIMIT_NOFILE), and needs {RESERVE + ports}, and one more for each"
            " further connection; raise the limit (ulimit -n, or LimitNOFILE= in the unit)"
        )
    return min(settings.tcp_total, (open_files - RESERVE) // ports)


def grow_table(size: int) -> None:
    """Have the kernel's table of this process's descriptors hold ``size`` of them. It never shrinks.

    Once the process has threads, Linux waits at each doubling for an RCU grace period (``expand_fdtable``): 5 to 20 ms in
    which the event loop answers nobody, seven times on the way to 5,000 connections.
    """
    with suppress(OSError):
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, size - 1))


def fit_descriptors(settings: Settings) -> Settings:
    """Raise the limit of open files, and return ``settings`` with the ``tcp_total`` that fits. Call it first.

    Raises:
        SettingsError: the limit is too low for any connection.
    """
    open_files = raise_limit()
    tcp_total = effective_tcp_total(settings, open_files)
    if tcp_total < settings.tcp_total:
        _log.warning("descriptors.limited", tcp_total=tcp_total, open_files=open_files)
    grow_table(min(open_files, tcp_total + RESERVE))
    return msgspec.structs.replace(settings, tcp_total=tcp_total)
