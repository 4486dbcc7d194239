"""The service manager, such as systemd: it hears when the server is ready, stops, and still turns (``sd_notify(3)``)."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

_US_PER_S: Final = 1e6


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, to the service manager; do nothing without one.

    A manager that can't be reached is ignored: the server serves all the same.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            # An address in the abstract namespace is written with @.
            manager.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


async def keep_watchdog() -> None:
    """Show the service manager that the event loop turns, twice in each ``WatchdogSec=``; return if it does not ask."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not period_us.isdigit():
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(period_us) / 2 / _US_PER_S)
