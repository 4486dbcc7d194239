"""Baseline of a session check: one Litestar route that returns a struct of a session's size, on stock uvicorn.

``python -m tests.bench.bare_app`` runs it. Nothing of Interlock is loaded.
"""

from __future__ import annotations

import msgspec
from litestar import Litestar, get

from tests.bench import stock


class Session(msgspec.Struct):
    """The fields of the answer to ``GET /api/session``."""

    session_id: str
    state: str
    version: int
    subject: str | None
    connections: int
    created_at: str
    idle_expires_at: str
    expires_at: str
    reason: str | None


_ANSWER = Session(
    session_id="0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0",
    state="authenticated",
    version=2,
    subject="acc_3q2-7wAAQGmJw0m5bW9uZQ",
    connections=0,
    created_at="2026-01-23T09:30:00.000Z",
    idle_expires_at="2026-01-23T10:00:00.000Z",
    expires_at="2026-01-23T21:30:00.000Z",
    reason=None,
)


@get("/health/ready")
async def ready() -> Session:
    """Answer the readiness check of the bench."""
    return _ANSWER


@get("/api/session")
async def show() -> Session:
    """Return as many bytes as a real session has."""
    return _ANSWER


if __name__ == "__main__":
    stock.serve(Litestar([show, ready], openapi_config=None))
