"""The request that a proxy asks forward-auth about, in the three forms in which proxies describe it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from interlock.server.experience.headers import RawHeaders

_DESCRIBED: Final = (b"x-forwarded-method", b"x-forwarded-host", b"x-forwarded-proto")
_URL: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)")


def headers_by(form: str) -> Callable[[Any], Sequence[tuple[bytes, bytes]]]:
    """Return a function from a scope to the headers that describe the request, with X-Forwarded-Method, -Host and -Proto.

    ``form``: the setting ``forward_auth_request``. A header of another form was sent by the client, and is ignored.
    """
    return _FORMS[form]


def is_preflight(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether ``headers`` describe a CORS preflight (Fetch standard, 3.3.2). Browsers send it without credentials."""
    named = {name for name, _ in headers}
    methods = [value for name, value in headers if name == b"x-forwarded-method"]
    return methods == [b"OPTIONS"] and b"origin" in named and b"access-control-request-method" in named


def _forwarded(scope: Any) -> Sequence[tuple[bytes, bytes]]:
    headers: RawHeaders = scope["headers"]
    return headers


def _original(scope: Any) -> Sequence[tuple[bytes, bytes]]:
    sent = dict(scope["headers"])
    url = _URL.match(sent.get(b"x-original-url", b""))
    described = {
        b"x-forwarded-method": sent.get(b"x-original-method"),
        b"x-forwarded-host": url[2] if url else None,
        b"x-forwarded-proto": url[1] if url else None,
    }
    return _with(scope, described)


def _same(scope: Any) -> Sequence[tuple[bytes, bytes]]:
    sent = dict(scope["headers"])
    described = {
        b"x-forwarded-method": scope["method"].encode(),
        b"x-forwarded-host": sent.get(b"host"),
        b"x-forwarded-proto": sent.get(b"x-forwarded-proto"),
    }
    return _with(scope, described)


def _with(scope: Any, described: dict[bytes, bytes | None]) -> Sequence[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in scope["headers"] if name not in _DESCRIBED]
    return [*others, *((name, value) for name, value in described.items() if value is not None)]


_FORMS: Final = {"x-forwarded": _forwarded, "x-original": _original, "envoy": _same}
