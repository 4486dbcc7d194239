"""Which credential opens which call, from the application's own OpenAPI document."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

from http_pages import Call, calls
from pieces import table


def authorization() -> str:
    """One row for each call, one column for each credential."""
    rows = [
        (f"[`{call.name}`](http.md#{call.anchor})", *("yes" if each else "" for each in _opened_by(call)))
        for call in calls()
    ]
    return table(
        (
            "call",
            "nobody",
            "access token",
            "refresh token",
            "client's secret",
            "subscriber's secret",
            "administrator's secret",
            "realm's signature",
        ),
        rows,
    )


def _opened_by(call: Call) -> tuple[bool, ...]:
    choices = call.operation.get("security") or [{}]
    names = {name for choice in choices for name in choice}
    in_body = "RefreshBody" in str(call.operation.get("requestBody"))
    refresh = "cookie" in names or in_body
    of_programs = (name in names for name in ("client", "subscriber", "admin", "realm"))
    return ({} in choices and not in_body, "bearer" in names, refresh, *of_programs)
