"""An administrator's client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from interlock.server.guard.secrets import Secrets
from tests.support.client import Client
from tests.support.documented import check_answer
from tests.support.log import interlock, records
from tests.support.running import until


def admin_token(data: Path, name: str = "ada") -> str:
    """Create an administrator's secret as an operator does."""
    outcome = interlock("admin-token", "create", name, "--data", data)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


def recorded_admin_token(data: Path, name: str = "ada") -> str:
    """As :func:`admin_token`, beside a running server, whose log holds the record of it when this returns."""
    secret = admin_token(data, name)
    until(lambda: any(each["event"] == "add" and each["data"]["name"] == name for each in records(data)))
    return secret


def remove_admin(data: Path, name: str = "ada") -> None:
    outcome = interlock("admin-token", "remove", name, "--data", data)
    assert outcome.returncode == 0, outcome.stderr


def holder_of(secrets: Secrets, presented: str) -> str | None:
    """The name of whoever has the secret ``presented``, if one of ``secrets`` is it."""
    found = secrets.check(presented)
    return None if found is None else found.name


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Check that ``answer`` is the problem ``name``, and return its body."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:interlock:problem:{name}"
    return body


async def subject_of(client: Client) -> str:
    """Return the id of the account that ``client`` is logged in to."""
    return str((await client.session())["subject"])


class Admin:
    """One administrator: an httpx client with the secret."""

    def __init__(self, url: str, secret: str) -> None:
        self.secret = secret
        self.http = httpx.AsyncClient(
            base_url=f"{url}/api/admin",
            timeout=60,
            headers={"Authorization": f"Bearer {secret}"},
            event_hooks={"response": [check_answer]},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        """Send a GET, and return its JSON."""
        answer = await self.http.get(path, params=query or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def pages(self, path: str, **query: Any) -> list[list[dict[str, Any]]]:
        """Yield every page of a list, by its Link headers."""
        found = []
        address, parameters = path, query or None
        while address:
            answer = await self.http.get(address, params=parameters)
            assert answer.status_code == 200, answer.text
            found.append(answer.json())
            link = answer.links.get("next", {}).get("url", "")
            address, parameters = link.removeprefix("/api/admin"), None
        return found

    async def every(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return a whole list, page by page."""
        return [each for page in await self.pages(path, **query) for each in page]

    @asynccontextmanager
    async def follow(self, after: int | None = None, last_event_id: int | None = None) -> AsyncIterator[Stream]:
        """Open the live stream."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        query = {} if after is None else {"after": after}
        async with self.http.stream("GET", "/transitions/stream", params=query, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield Stream(answer)


class Stream:
    """Parses Server-Sent Events as an EventSource does (WHATWG HTML, 9.2.6): ``last_event_id`` is what it reconnects with."""

    def __init__(self, answer: httpx.Response) -> None:
        self.comments: list[str] = []
        self.last_event_id: int | None = None
        self._lines = answer.aiter_lines()

    async def event(self) -> dict[str, Any] | None:
        """Return the next event: ``id``, ``event`` and ``data``; None at the end of the stream."""
        fields: dict[str, Any] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            elif line:
                fields[name] = value
            else:
                if "id" in fields:
                    self.last_event_id = int(fields["id"])
                if "event" in fields:
                    return fields | {"data": json.loads(fields["data"])}
                fields = {}
        return None

    async def record(self) -> dict[str, Any]:
        """Return the next record. Its position must be the event's id."""
        event = await self.event()
        assert event is not None
        assert event["event"] == "transition", event
        data: dict[str, Any] = event["data"]
        assert event["id"] == str(data["position"])
        return data

    async def end(self) -> str:
        """Read to the end, and return the server's reason."""
        while event := await self.event():
            if event["event"] == "end":
                assert "id" not in event, "it must not move the place that the client goes on from"
                assert await self.event() is None
                return str(event["data"]["reason"])
        raise AssertionError("the stream ended without a word")
