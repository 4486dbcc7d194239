"""A back end that follows events: an httpx client with a subscriber's secret."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.documented import check_answer
from tests.support.log import interlock


def subscriber_token(data: Path, *scopes: str, name: str = "shop") -> str:
    """Create a subscriber's secret as an operator does."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    outcome = interlock("subscribers", "create", name, *options, "--data", data)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


class Subscriber:
    """One back end."""

    def __init__(self, url: str, secret: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=url,
            timeout=60,
            headers={"Authorization": f"Bearer {secret}"},
            event_hooks={"response": [check_answer]},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def page(self, after: int | None = None, limit: int | None = None) -> dict[str, Any]:
        """Return one page of events."""
        given = {name: value for name, value in (("after", after), ("limit", limit)) if value is not None}
        answer = await self.http.get("/api/events", params=given)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def every(self, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Return all events after a position, page by page."""
        found, more = [], True
        while more:
            page = await self.page(after, limit)
            assert len(page["events"]) <= limit
            assert page["cursor"] >= after
            found += page["events"]
            after, more = page["cursor"], page["more"]
        return found

    @asynccontextmanager
    async def follow(self, after: int | None = None, last_event_id: int | None = None) -> AsyncIterator[EventStream]:
        """Open the stream."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        query = {} if after is None else {"after": after}
        async with self.http.stream("GET", "/api/events/stream", params=query, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield EventStream(answer)


class EventStream:
    """Parses Server-Sent Events as an EventSource does (WHATWG HTML, 9.2.6): ``last_event_id`` is what it reconnects with."""

    def __init__(self, answer: httpx.Response) -> None:
        self.comments: list[str] = []
        self.last_event_id: int | None = None
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """Return the next event's name and data; None at the end of the stream."""
        name, data, event_id = "message", "", self.last_event_id
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            elif field == "id":
                event_id = int(value)
            elif field == "event":
                name = value
            elif field == "data":
                data = value
            elif not line:
                self.last_event_id = event_id
                if data:
                    return name, json.loads(data)
                name = "message"
        return None

    async def event(self) -> dict[str, Any]:
        """Return the next event message. Its position must be the id to reconnect with."""
        found = await self.next()
        assert found is not None
        name, data = found
        assert name == "message", found
        assert self.last_event_id == data["data"]["position"]
        return data

    async def end(self) -> str:
        """Read to the end, and return the server's reason."""
        while found := await self.next():
            if found[0] == "end":
                assert await self.next() is None
                return str(found[1]["reason"])
        raise AssertionError("the stream ended without a word")
