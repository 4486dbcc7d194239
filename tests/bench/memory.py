"""Total memory of an idle connection: the process, its session, and the kernel's part."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.figure import Bench, Figure, at_most
from tests.bench.processes import interlock, open_files
from tests.bench.wire import Http, Socket, User, http_pool, open_socket, spread

BAR_KIB: Final = 48
_PAGE_KIB: Final = 4
_SLABS: Final = ("TCP", "TCPv6", "sock_inode_cache", "filp", "eventpoll_epi", "skbuff_head_cache", "skbuff_small_head")
_WARM_UP: Final = 64
_SETTLE_S: Final = 2.0


class _Memory(msgspec.Struct, frozen=True):
    """KiB: the server's resident set; the kernel's socket objects, and its socket buffers, of the whole machine."""

    resident: float
    slabs: float
    buffers: float


async def measure(bench: Bench) -> list[Figure]:
    """Measure one server for each count, with default memory management."""
    counts = (2000, 5000) if not bench.quick else (300,)
    open_files(max(counts) + 500)
    return [await _measure(bench, count) for count in counts]


async def _measure(bench: Bench, count: int) -> Figure:
    with interlock(bench, bench.path(f"memory-{count}")) as server:
        async with http_pool(server.url, 16) as pool:
            # One-time allocations are not a connection's: imports, threads, first pages of caches.
            warm = await _users(bench, pool, "warm", _WARM_UP)
            for socket in await _open(bench, server.url, pool, warm):
                socket.hang_up()
            await asyncio.sleep(_SETTLE_S)
            at_first = _memory(server.pid)
            users = await _users(bench, pool, "idle", count)
            await asyncio.sleep(_SETTLE_S)
            logged_in = _memory(server.pid)
            sockets = await _open(bench, server.url, pool, users)
            await asyncio.sleep(_SETTLE_S)
            connected = _memory(server.pid)
            assert not any(socket.closed.done() for socket in sockets)
    process = (connected.resident - at_first.resident) / count
    open_socket_kib = (connected.resident - logged_in.resident) / count
    # Both ends of every connection are on this machine; the server owns one of them.
    slabs = (connected.slabs - at_first.slabs) / count / 2
    # Buffers are counted for the whole machine; what other programs freed meanwhile is not credited.
    buffers = max(0.0, connected.buffers - at_first.buffers) / count
    note = (
        f"process {process:.1f} (the socket {open_socket_kib:.1f}, its account and session {process - open_socket_kib:.1f}), "
        f"kernel objects {slabs:.1f}, kernel buffers {buffers:.2f} KiB; "
        f"the server itself {at_first.resident / 1024:.0f} MiB"
    )
    return at_most(
        f"memory of an idle connection, {count:,} of distinct sessions", process + slabs + buffers, BAR_KIB, "KiB", note
    )


async def _users(bench: Bench, pool: list[Http], name: str, count: int) -> list[User]:
    bench.say(f"logging {count:,} users in")

    async def join(http: Http, number: int) -> User:
        return await http.log_in(await http.register(f"{name}{number}@example.org"))

    return await spread(pool, count, join)


async def _open(bench: Bench, url: str, pool: list[Http], users: list[User]) -> list[Socket]:
    bench.say(f"opening {len(users):,} sockets")
    return await spread(pool, len(users), lambda _, n: open_socket(url, users[n].access_token))


def _memory(pid: int) -> _Memory:
    return _Memory(_resident(pid), _slabs(), _buffers())


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def _slabs() -> float:
    """Return the kernel's memory for sockets besides their buffers. Only root may read it; for others it counts as 0."""
    try:
        rows = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
    except PermissionError:
        return 0.0
    return sum(int(row[1]) * int(row[3]) for row in rows if row[0] in _SLABS) / 1024


def _buffers() -> float:
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")).split()
    return float(line[line.index("mem") + 1]) * _PAGE_KIB
