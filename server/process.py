"""One server process: the listening socket, signals, draining."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog
import uvicorn
from litestar import Litestar

from machine.closing import Close
from machine.errors import SettingsError
from server.app import app_over
from server.descriptors import fit_descriptors
from server.experience.http_protocol import http_protocol
from server.experience.protocol import WebSocketProtocol
from server.experience.socket import MESSAGE_BYTES
from server.guard.addresses import Addresses
from server.logs import log_unhandled
from server.opening import open_services
from server.services import Services
from server.settings import Settings

_log = structlog.get_logger("interlock.server")


class Server(uvicorn.Server):
    """uvicorn, draining: sockets are told to come back (1001) and their disconnects recorded before anything closes."""

    def __init__(self, config: uvicorn.Config, services: Services, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._services = services
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say where."""
        await super().startup(sockets)
        for listener in sockets or ():
            self._on_ready(_url(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new work, end what is open, then let uvicorn stop."""
        self._services.draining = True
        for listener in self.servers:
            listener.close()
        self._services.tail.wake()
        connections = self._services.connections
        connections.close_all(Close("draining"))
        deadline = asyncio.get_running_loop().time() + self._services.settings.drain_s
        while len(connections) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # once in a life
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


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
        _begin(listener)
        if for_metrics is not None:
            _begin(for_metrics)
            # Not for servers without metrics: importing the library takes a while.
            from server.experience.metrics_listener import serve_metrics
            from server.metrics import Metrics

            assert isinstance(services.metrics, Metrics)  # noqa: S101  # the port is set
            await stack.enter_async_context(
                serve_metrics(services.metrics.registry, for_metrics, settings, services.addresses)
            )
            _log.info("metrics.listening", url=f"{_url(for_metrics)}/metrics")
        server = Server(uvicorn_config(app_over(services), settings, services.addresses), services, on_ready)
        _heed_others(server)
        # uvicorn raises the signal again when it is done; by then it has been heeded.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _heeded)
        await server.serve(sockets=[listener])
    _log.info("server.stopped")


def uvicorn_config(app: Litestar, settings: Settings, addresses: Addresses) -> uvicorn.Config:
    """How uvicorn runs ``app``: no compression, no trust in proxy headers, no log of addresses."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=http_protocol(settings, addresses),
        ws=WebSocketProtocol,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_timeout_s,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # A client that reuses a connection in the moment it is closed gets an error it can't explain: so not uvicorn's 5 s.
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _heed_others(server: Server) -> None:
    """Drain on SIGHUP, unless the server was started with SIGHUP ignored, as nohup does. Ignore SIGUSR1 and SIGUSR2.

    Operators send those two to make a server reopen its log or show its status. By default they would kill it.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _heeded(_number: int, _frame: object) -> None:
    """Nothing is left to do for this signal."""


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
    listener.set_inheritable(True)
    return listener


def _begin(listener: socket.socket) -> None:
    """Let peers connect: not before everything is open. Of two that are bound to one port only the first can (SO_REUSEADDR).

    Raises:
        SettingsError: it can't; uvloop would go on without a word.
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise SettingsError(f"can't listen on {host} port {port}: {error.strerror}") from error
