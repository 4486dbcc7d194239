"""The HTTP client for one destination: bounded in time and size, without redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import msgspec

from interlock.server.outgoing.destinations import DestinationRefused, Destinations

_MOST_BYTES: Final = 64 * 1024
_CONNECT_S: Final = 10.0
_LONGEST_WAIT_MS: Final = 86_400_000
_MS_PER_S: Final = 1000
_WHY_CHARACTERS: Final = 200


class Unreachable(Exception):
    """There was no answer. The message says why. ``sent``: a part of the request was sent, so it may have had its effects."""

    def __init__(self, why: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(why)


class TooLong(Exception):
    """The answer is longer than allowed."""


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request. ``retry_after_ms`` is what it asks for, a day at most; None if it does not."""

    status: int
    retry_after_ms: int | None
    body: bytes


class OutgoingClient:
    """Sends requests to ``url``, within ``timeout_s`` each. ``at_once`` is how many there may be at a time.

    Each client has connections of its own: one that was verified for one host is never used for another. Without
    ``keep_alive``, each request has a new connection. Then a failure never leaves open whether the request was sent, as it
    does if the other side closes a kept connection at that moment. ``most_bytes`` limits an answer.
    """

    def __init__(  # the limits by name
        self,
        url: str,
        destinations: Destinations,
        *,
        timeout_s: float,
        at_once: int,
        keep_alive: bool = True,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._url = httpx.URL(url)
        self._destinations = destinations
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            follow_redirects=False,
            # A proxy would resolve the name anew, and might be sent anywhere.
            trust_env=False,
            verify=_certificates(),
            limits=httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once if keep_alive else 0),
        )

    async def post(self, headers: Mapping[str, str], body: bytes, now_ms: int) -> Answer:
        """Send ``body``, and return the answer.

        Raises:
            Unreachable: there was none, or it was too long.
        """
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event == "http11.send_request_headers.started"

        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._destinations.resolve(self._url)
                request = self._http.build_request(
                    "POST",
                    self._url.copy_with(host=address),
                    content=body,
                    headers={**headers, "host": self._url.netloc.decode("ascii"), "accept-encoding": "identity"},
                    extensions={"sni_hostname": self._url.raw_host.decode("ascii"), "trace": trace},
                )
                answer = await self._http.send(request, stream=True)
                try:
                    content = await read_at_most(answer, self._most_bytes)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise Unreachable(f"no answer within {self._timeout_s:g} s", sent=sent) from None
        except TooLong:
            raise Unreachable(f"the answer is longer than {self._most_bytes} bytes", sent=sent) from None
        except DestinationRefused as error:
            raise Unreachable(str(error), sent=False) from None
        except (httpx.HTTPError, OSError) as error:
            raise Unreachable(_why(error), sent=sent) from None
        return Answer(answer.status_code, _retry_after_ms(answer.headers.get("retry-after", ""), now_ms), content)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def read_at_most(answer: httpx.Response, most: int) -> bytes:
    """Return the body of ``answer``, as it is sent.

    Raises:
        TooLong: it is longer than ``most`` bytes.
    """
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > most:
            raise TooLong
    return bytes(body)


def _certificates() -> ssl.SSLContext:
    """Return what certificates are checked against: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, or else those of certifi."""
    return httpx.create_ssl_context(trust_env=True)


def _why(error: Exception) -> str:
    """Return a short text about ``error``: of a protocol error only its name, as its text repeats what the other side sent."""
    name = type(error).__name__
    text = "" if isinstance(error, httpx.ProtocolError) else str(error)
    return f"{name}: {text}".rstrip(": ")[:_WHY_CHARACTERS]


def _retry_after_ms(text: str, now_ms: int) -> int | None:
    """Return the delay of a Retry-After header (RFC 9110, 10.2.3), None if there is none that can be read."""
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * _MS_PER_S, _LONGEST_WAIT_MS)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    delay_ms = round((at - datetime.fromtimestamp(now_ms / _MS_PER_S, UTC)).total_seconds() * _MS_PER_S)
    return min(max(delay_ms, 0), _LONGEST_WAIT_MS)
