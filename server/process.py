"""One server process: the listening socket, signals, draining."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog

from interlock.machine.closing import Close
from interlock.machine.errors import SettingsError
from interlock.server.app import app_over
from interlock.server.experience.transport.limits import ConnectionLimits
from interlock.server.experience.transport.server import HttpServer
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.system.descriptors import fit_descriptors
from interlock.server.telemetry.logs import log_unhandled
from interlock.server.wiring import open_services

_log = structlog.get_logger("interlock.server")

_METRICS_GRACE_S: Final = 1.0
_YOUNG: Final = 2
"""The garbage collector's passes over what is new before one over what is young: 2,100 objects, less than a millisecond."""
_RARELY: Final = 3500
"""Passes over what is young before a full one."""


async def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Run one server until it is told to stop (SIGTERM, SIGINT or SIGHUP).

    ``on_ready`` is called with the base URL once requests are answered.

    Raises:
        InterlockError: the server can't start; the message says why.
    """
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    settings = fit_descriptors(settings)
    listener = _listen(settings.host, settings.port)
    for_metrics = None if settings.metrics_port is None else _listen(settings.metrics_host, settings.metrics_port)
    async with open_services(settings) as services, AsyncExitStack() as stack:
        stopping = _stop_signals()
        if for_metrics is not None:
            # Not for servers without metrics: importing the library takes a while.
            from interlock.server.telemetry.metrics import Metrics
            from interlock.server.telemetry.metrics_listener import metrics_app

            assert isinstance(services.metrics, Metrics)  # noqa: S101  # the port is set
            metrics = HttpServer(metrics_app(services.metrics.registry), _limits(settings, services))
            await _begin(metrics, for_metrics)
            stack.push_async_callback(metrics.close, _METRICS_GRACE_S)
            _log.info("metrics.listening", url=f"{_url(for_metrics)}/metrics")
        app = app_over(services)
        server = HttpServer(app, _limits(settings, services), fast_path=app.fast_path)
        begin_collecting()
        await _begin(server, listener)
        if not settings.trusted_proxies and not _on_loopback(listener):
            _log.warning("server.exposed", host=settings.host)
        on_ready(_url(listener))
        await stopping.wait()
        await _drain(server, services, settings.drain_s)
    _log.info("server.stopped")


def begin_collecting() -> None:
    """Switch the garbage collector on. Passes, in which nobody is answered, are short, and full ones come rarely.

    What was made until now stays: no pass looks at it. Of a connection that opens all stays as well, and one that closes is
    freed without a pass (tests/transport/test_garbage.py). So while clients reconnect, full passes would find nothing.
    """
    gc.freeze()
    gc.set_threshold(gc.get_threshold()[0], _YOUNG, _RARELY)
    gc.enable()


def _limits(settings: Settings, services: Services) -> ConnectionLimits:
    """The limits of a port; each port counts its own connections."""
    return ConnectionLimits(settings, services.addresses)


def _stop_signals() -> asyncio.Event:
    """Set when the process is told to stop: by SIGTERM, SIGINT, or SIGHUP unless it was started with that ignored (nohup).

    A second Ctrl-C does not wait for the drain. SIGUSR1 and SIGUSR2 are ignored: operators send them to make a server reopen
    its log or show its status, and by default they would kill it.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        if number == signal.SIGINT:
            loop.remove_signal_handler(number)

    heeded = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    for number in heeded:
        loop.add_signal_handler(number, stop, number)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return stopping


async def _drain(server: HttpServer, services: Services, grace_s: float) -> None:
    """Take no new work. Sockets are told to come back (1001) and their disconnects recorded before anything closes."""
    services.draining = True
    server.stop_accepting()
    services.tail.wake()
    services.connections.close_all(Close("draining"))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    while (len(services.connections) or services.tasks) and loop.time() < deadline:  # noqa: ASYNC110  # once in a life
        await asyncio.sleep(0.02)
    await server.close(max(0.0, deadline - loop.time()))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _on_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, bound before anything is opened, so that a port in use is said first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"can't listen on {host} port {port}: {error.strerror}") from error
    return listener


async def _begin(server: HttpServer, listener: socket.socket) -> None:
    """Let peers connect: not before everything is open. Of two that are bound to one port only the first can (SO_REUSEADDR).

    Raises:
        SettingsError: it can't; uvloop would go on without a word.
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise SettingsError(f"can't listen on {host} port {port}: {error.strerror}") from error
    await server.start(listener)
