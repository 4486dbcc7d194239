"""The memory of all streams: bounded, and given back."""

from __future__ import annotations

from pathlib import Path

from interlock.machine.execution.execution import Execution
from interlock.machine.session.commands import Revoke
from interlock.server.runtime.door import commands
from interlock.server.services import Services
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.wire import greeted, register, services_in

_MIB = 1 << 20
_VALUE = b'"%s"' % (b"x" * 16_000)


class Silent:
    """A connection that never reads."""

    def wake(self) -> None:
        pass


def open_streams(services: Services, count: int) -> list[str]:
    """Give so many sessions a connection and a stream."""
    names = [f"s{n}" for n in range(count)]
    for name in names:
        register(services.connections, name, f"con {name}", Silent(), "ada")
        services.streams.of(name)
    return names


def emit(services: Services, session_id: str) -> None:
    """Let an execution of the session emit a value."""
    execution = Execution(f"exe {session_id}", state="running", session_id=session_id, intent_id="i")
    services.streams.progress(execution, _VALUE)


def kept(services: Services, session_id: str) -> int:
    """Return how many messages the session's stream keeps."""
    stream = services.streams.of(session_id)
    return stream.offset - stream.start


@asynchronous
async def test_the_memory_of_all_streams_is_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    async with services_in(tmp_path, streams_mib=1) as services:
        names = open_streams(services, 200)
        empty = services.streams.size
        for name in names:
            for _ in range(3):
                emit(services, name)
            await eventually(lambda: not services.streams.of(name).collecting)  # noqa: B023  # awaited at once
            assert services.streams.size - empty <= _MIB
        assert kept(services, names[0]) == 0
        assert kept(services, names[-1]) == kept(services, names[-10]) == 2
        for name in names:
            services.connections.unregister(name, f"con {name}", "ada")


@asynchronous
async def test_messages_and_streams_are_forgotten_after_their_time(tmp_path: Path) -> None:
    async with services_in(tmp_path, resume_s=0.4) as services:
        names = open_streams(services, 20)
        empty = services.streams.size
        for name in names:
            emit(services, name)
        assert services.streams.size >= empty + 20 * len(_VALUE)
        await eventually(lambda: services.streams.size == empty)
        assert len(services.streams) == 20
        for name in names:
            services.connections.unregister(name, f"con {name}", "ada")
        await eventually(lambda: len(services.streams) == 0)
        assert services.streams.size == 0


@asynchronous
async def test_an_ended_session_leaves_no_stream(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        emit(services, session.session_id)
        assert len(services.streams) == 1
        await services.sessions.submit(session.session_id, *commands("ada", Revoke("revoked")))
        await running
        assert "progress" not in wire.said
        assert (len(services.streams), services.streams.size) == (0, 0)


@asynchronous
async def test_a_session_without_a_websocket_has_no_stream(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        emit(services, "nobody")
        assert (len(services.streams), services.streams.size) == (0, 0)
