"""One server process: listening sockets, signals, draining."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import structlog

from interlock.server.app import app_over
from interlock.server.draining import drain
from interlock.server.experience.transport.limits import TransportLimits
from interlock.server.experience.transport.server import HttpServer
from interlock.server.hosting import listeners
from interlock.server.hosting.service_manager import keep_watchdog, notify
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.system.descriptors import fit_descriptors
from interlock.server.telemetry.logs import log_unhandled
from interlock.server.wiring import open_services

_log = structlog.get_logger("interlock.server")

_METRICS_GRACE_S: Final = 1.0
_YOUNG: Final = 2
"""Youngest-generation passes per pass over the middle generation, which then takes under a millisecond for 2,100 objects."""
_RARELY: Final = 3500
"""Middle-generation passes per full pass."""


async def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Run one server until SIGTERM, SIGINT or SIGHUP stops it.

    ``on_ready`` is called with the base URL, base path included, once requests are answered.

    Raises:
        InterlockError: the server can't start; the message says why.
    """
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    settings = fit_descriptors(settings)
    for_metrics = None
    if settings.metrics_port is not None:
        for_metrics = listeners.bind_port(settings.metrics_host, settings.metrics_port, "metrics_port")
    with _listener(settings) as listener:
        await _serve(settings, listener, for_metrics, on_ready)
    _log.info("server.stopped")


async def _serve(
    settings: Settings, listener: socket.socket, for_metrics: socket.socket | None, on_ready: Callable[[str], None]
) -> None:
    async with open_services(settings) as services, AsyncExitStack() as stack:
        stopping = _stop_signals()
        if for_metrics is not None:
            # Import only if metrics are on: importing the library is slow.
            from interlock.server.telemetry.metrics import PrometheusMetrics
            from interlock.server.telemetry.metrics_listener import metrics_app

            assert isinstance(services.metrics, PrometheusMetrics)  # noqa: S101  # the port is set
            metrics = HttpServer(metrics_app(services.metrics.registry), _limits(settings, services))
            await _begin(metrics, for_metrics, "metrics_port")
            stack.push_async_callback(metrics.close, _METRICS_GRACE_S)
            _log.info("metrics.listening", url=f"{listeners.url_of(for_metrics)}/metrics")
        app = app_over(services)
        server = HttpServer(
            app, _limits(settings, services), fast_path=app.fast_path, on_pong=services.metrics.round_trip
        )
        begin_collecting()
        await _begin(server, listener, "port")
        if not settings.trusted_proxies and not listeners.is_local(listener):
            _log.warning("server.exposed", host=settings.host)
        on_ready(listeners.url_of(listener) + ("" if settings.unix_socket else settings.base_path))
        watchdog = asyncio.create_task(keep_watchdog())
        stack.callback(watchdog.cancel)
        notify("READY=1")
        await stopping.wait()
        notify("STOPPING=1")
        await drain(server, services, settings.drain_s)


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """Return the bound socket of the API; at the end, nothing of it is left in the file system."""
    if not settings.unix_socket:
        yield listeners.bind_port(settings.host, settings.port, "port")
        return
    listener = listeners.bind_unix_socket(settings.unix_socket)
    try:
        yield listener
    finally:
        listeners.remove_unix_socket(settings.unix_socket)


def begin_collecting() -> None:
    """Enable the garbage collector with short and rare passes, because nothing is answered during a pass.

    Existing objects are frozen, so no pass visits them. All objects of a new connection survive, and a closed one is freed
    without a pass (tests/transport/test_garbage.py). So full passes while clients reconnect would find nothing.
    """
    gc.freeze()
    gc.set_threshold(gc.get_threshold()[0], _YOUNG, _RARELY)
    gc.enable()


def _limits(settings: Settings, services: Services) -> TransportLimits:
    """Return the limits of a port. Each port counts its own connections."""
    return TransportLimits(settings, services.addresses)


def _stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT or SIGHUP sets. SIGHUP is left alone if the process started with it ignored (nohup).

    A second Ctrl-C stops at once, without draining. SIGUSR1 and SIGUSR2 are ignored: operators send them to servers to reopen
    a log or show status, and by default they would kill the process.
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


async def _begin(server: HttpServer, listener: socket.socket, setting: str) -> None:
    """Start serving, once everything is open. Of two servers bound to one port (SO_REUSEADDR), only the first can listen.

    Raises:
        SettingsError: this server can't listen. Without this check uvloop would continue silently.
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise listeners.cant_listen(f"{host} port {port}", setting, error) from error
    await server.start(listener)
