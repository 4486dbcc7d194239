"""Limits of a port's connections: in total, and per address."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from interlock.machine.rate_limit import parse_rate
from interlock.server.guard.throttling.addresses import Addresses
from interlock.server.settings import Settings
from interlock.server.system.addresses import UNKNOWN, limit_key

_THIS_MACHINE: Final = ("127.0.0.1", 0)

BODY_BYTES: Final = 64 * 1024
"""Maximum content of a request: every endpoint takes a small JSON object or a form."""


def peer_of(transport: Any) -> tuple[Any, ...] | None:
    """Return the socket address of the peer; None if it is gone. The peer of a Unix socket is a process of this machine."""
    peer = transport.get_extra_info("peername")
    return _THIS_MACHINE if isinstance(peer, str) else peer


class TransportLimits:
    """The limits of one port, and its open connections, WebSockets included.

    ``frame_interval_s`` is the cost of a WebSocket frame under ``limit_frames``; ``frame_burst_s`` is how much may be used
    ahead (None: no limit).
    """

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self.settings = settings
        self.addresses = addresses
        rate = parse_rate(settings.limit_frames)
        self.frame_burst_s = rate.period_ms / 1000 if rate is not None else None
        self.frame_interval_s = rate.period_ms / 1000 / rate.count if rate is not None else 0.0
        self.open: set[ConnectionSlot] = set()
        self.by_address: Counter[str] = Counter()

    def take(self, transport: Any) -> ConnectionSlot:
        """Count the connection of ``transport``, even beyond the limits."""
        peer = peer_of(transport)
        address = self.addresses.client(peer[0] if peer else None, ())
        counted = address != UNKNOWN and self.addresses.counts(address) and not self.addresses.trusts(address)
        slot = ConnectionSlot(self, transport, address, limit_key(address) if counted else None)
        self.open.add(slot)
        if slot.key is not None:
            self.by_address[slot.key] += 1
        return slot


class ConnectionSlot:
    """One counted connection, under ``limits``. ``address`` is its peer's; ``key`` is its rate limit key, None if exempt."""

    __slots__ = ("address", "key", "limits", "transport")

    def __init__(self, limits: TransportLimits, transport: Any, address: str, key: str | None) -> None:
        self.limits = limits
        self.transport = transport
        self.address = address
        self.key = key

    @property
    def over(self) -> bool:
        """Whether the limits are exceeded."""
        limits = self.limits
        return len(limits.open) > limits.settings.tcp_total or (
            self.key is not None and limits.by_address[self.key] > limits.settings.tcp_per_address
        )

    def release(self) -> None:
        """Stop counting it. Repeated calls are harmless."""
        limits = self.limits
        if self not in limits.open:
            return
        limits.open.remove(self)
        if self.key is not None:
            limits.by_address[self.key] -= 1
            if not limits.by_address[self.key]:
                del limits.by_address[self.key]
