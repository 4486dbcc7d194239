"""Check of the query: only parameters in the call's OpenAPI are accepted, each once.

Ignoring a misspelt filter would return everything, and a duplicate parameter is ambiguous.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from litestar.openapi.spec import OpenAPI, OpenAPIType, Parameter, Schema
from litestar.types import ASGIApp, Receive, Scope, Send

from interlock.server.experience.problems import RequestRefused

Queries: TypeAlias = dict[tuple[str, str], dict[bytes, bool]]
"""Each call's parameters by method and path template, and whether they are free text. Calls without any are absent."""

ANY_QUERY: Final = "any_query"
"""Key in a handler's ``opt``: it reads the query itself."""

_METHODS: Final = ("get", "post", "put", "delete")


def queries_of(document: OpenAPI) -> Queries:
    """Return the query parameters that ``document`` lists."""
    queries: Queries = {}
    for path, item in (document.paths or {}).items():
        for method in _METHODS:
            parameters = getattr(getattr(item, method), "parameters", None) or ()
            taken = {
                each.name.encode(): isinstance(each.schema, Schema) and each.schema.type == OpenAPIType.STRING
                for each in parameters
                if isinstance(each, Parameter) and each.param_in == "query"
            }
            if taken:
                queries[method.upper(), path] = taken
    return queries


def refuse_queries(app: ASGIApp) -> ASGIApp:
    """Litestar middleware: check the query of every routed request before its handler and that handler's own hooks."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        _check_query(scope)
        await app(scope, receive, send)

    return checked


def _check_query(scope: Any) -> None:
    """Check that a routed request has only query parameters that its call takes, each once.

    A preflight is exempt, so that the page learns what is wrong with the request itself.

    Raises:
        RequestRefused: a parameter is unknown or a duplicate. The message omits its name, which the client chose.
    """
    query = scope["query_string"]
    if not query or scope["method"] == "OPTIONS" or scope["route_handler"].opt.get(ANY_QUERY):
        return
    taken = scope["litestar_app"].queries.get((scope["method"], scope["path_template"]), {})
    names = []
    for name, _, value in (part.partition(b"=") for part in query.split(b"&") if part):
        names.append(unquote_to_bytes(name.replace(b"+", b" ")))
        # Litestar would treat it as a missing parameter, and return everything.
        if unquote_to_bytes(value).lower() == b"null" and not taken.get(names[-1], True):
            raise RequestRefused(400, "null is no value of a query parameter: leave it out")
    if not taken.keys() >= set(names):
        listed = ", ".join(sorted(name.decode() for name in taken))
        raise RequestRefused(400, f"unknown query parameter; this call takes {listed or 'none'}")
    if len(set(names)) != len(names):
        raise RequestRefused(400, "duplicate query parameter")
