"""Query parameters of the console's pages: one structure for each page, with a text for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Request

from interlock.server.experience.middleware.queries import Queries
from interlock.server.experience.problems import RequestRefused

Q = TypeVar("Q")


def read_query(request: Request[Any, Any, Any], kind: type[Q]) -> Q:
    """Return the query of ``request``. A form sends the fields that were left empty too; they count as not given.

    Raises:
        RequestRefused: a value is not of its kind.
    """
    given = {name: text for name, text in request.query_params.items() if text}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError:
        # The message would quote what the client chose.
        raise RequestRefused(400, "a query parameter of this page has a value that it can't have") from None


def queries_of_pages(pages: Mapping[str, type[Any]]) -> Queries:
    """Return what :mod:`interlock.server.experience.middleware.queries` lets through to ``pages``, by path template."""
    return {
        ("GET", path): {name.encode(): True for name in structure.__struct_fields__}
        for path, structure in pages.items()
    }
