"""What a request or a handshake is refused with: the same problems and close codes that an Interlock server uses."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.machine.closing import Close, Recovery


class Denial(msgspec.Struct, frozen=True):
    """Why nothing is served: ``status`` and ``problem`` over HTTP, ``close`` over a WebSocket."""

    status: int
    problem: str
    title: str
    recovery: Recovery
    close: Close

    def body(self) -> bytes:
        """Return the problem document."""
        about = {
            "type": f"urn:interlock:problem:{self.problem}",
            "title": self.title,
            "status": self.status,
            "recovery": self.recovery,
        }
        return msgspec.json.encode(about)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the response."""
        headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
        if self is UNKNOWN:
            headers.append((b"retry-after", b"5"))
        elif self is MISSING:
            headers.append((b"www-authenticate", b'Bearer realm="interlock"'))
        elif self is not ANONYMOUS:
            headers.append((b"www-authenticate", b'Bearer realm="interlock", error="invalid_token"'))
        return headers


MISSING: Final = Denial(
    401, "credential-missing", "No credential", Recovery.LOG_IN, Close("not_authenticated", "no access token")
)
NOT_CURRENT: Final = Denial(
    # A client that can't refresh learns there why: the session has ended, or the token never was one.
    401,
    "token-expired",
    "The access token is no longer current",
    Recovery.REFRESH,
    Close("token_expired"),
)
ANONYMOUS: Final = Denial(
    403,
    "login-required",
    "The session is anonymous",
    Recovery.LOG_IN,
    Close("not_authenticated", "the session is anonymous"),
)
UNKNOWN: Final = Denial(
    503, "overloaded", "Nobody knows whether the session lives", Recovery.RETRY_LATER, Close("overloaded")
)

DENIALS: Final = (MISSING, NOT_CURRENT, ANONYMOUS, UNKNOWN)


class Denied(Exception):
    """A request that is not served."""

    def __init__(self, denial: Denial) -> None:
        self.denial = denial
        super().__init__(denial.title)


def closing(close: Close) -> dict[str, Any]:
    """Return the ASGI message of a close."""
    return {"type": "websocket.close", "code": close.code, "reason": close.reason}
