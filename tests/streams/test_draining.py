"""A stopping server with many WebSockets: they close in turn, so that their clients do not all come back at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interlock.machine.closing import Close
from interlock.server.draining import drain
from interlock.server.experience.transport import http
from interlock.server.experience.transport.limits import TransportLimits
from interlock.server.experience.transport.server import HttpServer
from interlock.server.services import Services
from tests.support.asynchronous import asynchronous, on_uvloop
from tests.support.running import eventually
from tests.support.upgraded import upgrading
from tests.support.wire import register, services_in


class Quiet:
    """A connection that notes the turn of the event loop in which it is closed."""

    def __init__(self, services: Services, name: str, turns: Turns) -> None:
        self.closed_in: list[int] = []
        self._services = services
        self._name = name
        self._turns = turns
        register(services.connections, f"session {name}", name, self, "ada")

    def close(self, closing: Close) -> None:
        assert closing == Close("draining")
        if not self.closed_in:
            self._services.connections.unregister(f"session {self._name}", self._name, "ada")
        self.closed_in.append(self._turns.count)


class Turns:
    """Counts turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@asynchronous
async def test_a_stopping_server_closes_its_sockets_in_turn(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        turns = Turns()
        counting = asyncio.create_task(turns.run())
        sockets = [Quiet(services, f"con {n}", turns) for n in range(200)]
        server = HttpServer(None, TransportLimits(services.settings, services.addresses))
        await drain(server, services, grace_s=10)
        counting.cancel()
        assert [len(each.closed_in) for each in sockets] == [1] * 200
        assert len({each.closed_in[0] for each in sockets}) > 5


@asynchronous
async def test_a_short_time_to_stop_is_enough_for_any_number_of_sockets(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        turns = Turns()
        counting = asyncio.create_task(turns.run())
        sockets = [Quiet(services, f"con {n}", turns) for n in range(5_000)]
        server = HttpServer(None, TransportLimits(services.settings, services.addresses))
        await drain(server, services, grace_s=0.1)
        counting.cancel()
        assert [len(each.closed_in) for each in sockets] == [1] * 5_000
        # The time has room for four steps. At the usual pace there would be 250.
        assert len({each.closed_in[0] for each in sockets}) <= 4


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""])
def test_a_stopping_server_does_not_wait_for_idle_connections(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http, "LINGER_S", 3600)

    @on_uvloop
    async def check() -> None:
        async with upgrading() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            assert not sent or (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await eventually(lambda: server.count == 1)
            # The client keeps its end open.
            await server.server.close(3600)
            assert server.count == 0
            writer.close()

    check()
