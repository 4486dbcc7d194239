"""HTTP calls, and what came of each: tokens, a refusal, or no answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from interlock.client.errors import NetworkFailed, Refused, ServerFailed, Unavailable
from interlock.client.words import PROBLEM_PREFIX, Failure, Problem

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(10)


class Calls:
    """Calls to the server at ``url``, over kept connections."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, timeout=_TIMEOUT)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self, method: str, path: str, answer: type[T], token: str | None = None, body: Mapping[str, Any] | None = None
    ) -> T:
        """Send a request and return its decoded response; for ``NoneType``, None.

        Raises:
            Refused: the server refused it.
            NetworkFailed, ServerFailed: there is no answer to rely on.
        """
        response = await self._send(method, path, token, body)
        return answer() if answer is type(None) else _decoded(response, answer)

    async def pages(self, path: str, item: type[T], token: str) -> list[T]:
        """Return all items of a list, page by page. Raises what :meth:`call` raises."""
        found: list[T] = []
        while True:
            response = await self._send("GET", path, token, None)
            found += _decoded(response, list[item])  # type: ignore[valid-type]  # a type at run time
            if "next" not in response.links:
                return found
            # A path of the server, below whatever path that answers at.
            path = str(response.url.join(response.links["next"]["url"]))

    async def _send(self, method: str, path: str, token: str | None, body: Mapping[str, Any] | None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            response = await self._http.request(method, path, headers=headers, json=body)
        except httpx.TransportError as error:
            raise NetworkFailed(str(error) or type(error).__name__) from error
        if not response.is_success:
            raise failed(response.status_code, response.headers, response.content)
        return response


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError:
        raise ServerFailed(response.status_code) from None


def failed(status: int, headers: Mapping[str, str], content: bytes) -> Refused | ServerFailed:
    """Return the error of a response without success. Only a problem document of Interlock is a refusal."""
    retry_after = headers.get("retry-after", "")
    retry_after_s = int(retry_after) if retry_after.isdecimal() else None
    try:
        problem = msgspec.json.decode(content, type=Problem)
    except msgspec.MsgspecError:
        return ServerFailed(status, retry_after_s)
    if not problem.type.startswith(PROBLEM_PREFIX) or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return ServerFailed(status, retry_after_s)
    return Refused(problem, retry_after_s)


def failure_of(error: Refused | Unavailable) -> Failure:
    """Return ``error`` as the core takes it."""
    wait_ms = (error.retry_after_s or 0) * 1000
    return Failure(error.problem if isinstance(error, Refused) else None, wait_ms)
