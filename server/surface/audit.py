"""The audit trail: acts of administrators that are no transition of a session, in their order, never changed or removed.

An act is written in the same transaction as what it did (see :func:`write_act`), so neither is ever there without the other.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Act(msgspec.Struct, frozen=True):
    """What an administrator did, and when (ASVS 16.2.1: when, where, who, what).

    ``actor`` is ``admin:<name>``, ``object`` the id of what it was done to, ``detail`` what the act carries, ``address``
    where the request came from, if known. Nothing in it is secret.
    """

    at_ms: int
    actor: str
    action: str
    object: str
    detail: dict[str, Any]
    address: str | None


class AuditRecord(msgspec.Struct, frozen=True):
    """An act in its place; ``position`` counts from 1 without gaps."""

    position: int
    act: Act


class AuditStore(Protocol):
    """Where acts are read from. Every implementation passes the same contract suite."""

    async def after(self, position: int, limit: int) -> list[AuditRecord]:
        """At most ``limit`` acts with a position above ``position``, oldest first."""
        ...
