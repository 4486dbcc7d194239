"""Checks that the OpenAPI document lists an answer for its call: status, headers, body and problem."""

from __future__ import annotations

import asyncio
import re
from functools import cache, lru_cache
from typing import Any, Final

import httpx
import jsonschema_rs

from interlock.server.app import build_app
from interlock.server.settings import Settings

_OF_ANY_CALL: Final = frozenset({405, 408, 413, 431})
"""Refusals before the connection knows the call, or that no call of this path causes."""


def check_documented(response: httpx.Response) -> None:
    """Check an answer whose body was read. Calls outside the document (the schema, a WebSocket, made-up paths) are exempt."""
    request = response.request
    operation = _operation(request.method, request.url.raw_path.partition(b"?")[0].decode())
    if operation is None or response.status_code in _OF_ANY_CALL:
        return
    about = f"{operation['operationId']} answers {response.status_code}: {response.text[:300]}"
    described = operation["responses"].get(str(response.status_code))
    assert described is not None, about
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if "content" not in described:
        assert not response.content, about
    elif response.content:
        assert media_type in described["content"], about
        if media_type.endswith("json"):
            schema = described["content"][media_type]["schema"]
            answers = response.json() if "items" in schema else [response.json()]
            for each in answers:
                _validator(schema.get("items", schema)["$ref"]).validate(each)
    if media_type == "application/problem+json":
        assert response.json()["type"].rpartition(":")[2] in re.findall(r"\(`([a-z-]+)`\)", described["description"]), (
            about
        )
    for name in ("interlock-receipt", "link", "set-cookie", "retry-after", "www-authenticate"):
        assert name not in response.headers or name in map(str.lower, described["headers"]), f"{name}: {about}"


async def check_answer(response: httpx.Response) -> None:
    """Event hook of httpx clients: see :func:`check_documented`. A stream is not read."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()
        if not _document.cache_info().currsize:
            # This takes a second on a busy machine, which must not block the rest of a test.
            await asyncio.to_thread(_document)
        check_documented(response)


@cache
def _document() -> dict[str, Any]:
    return build_app(Settings()).openapi_schema.to_schema()


@lru_cache(maxsize=4096)
def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, item in _document()["paths"].items():
        if re.fullmatch(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template)), path):
            operation: dict[str, Any] | None = item.get(method.lower())
            return operation
    return None


@cache
def _validator(reference: str) -> Any:
    return jsonschema_rs.validator_for({"$ref": reference, "components": _document()["components"]})
