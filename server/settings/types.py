"""Types of settings: what a value must look like, in words that error messages show."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from interlock.machine.rate_limit import RATE_PATTERN


def wanted(words: str, pattern: str | None = None) -> Meta:
    """Return a constraint with the expected value in words, which error messages show instead of the pattern."""
    return Meta(pattern=pattern, extra={"wanted": words})


_PORT: Final = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535

Origin = Annotated[
    str,
    wanted(
        "an origin as browsers write it, such as https://app.example.org: lower case, no path, no / at the end",
        rf"^[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:{_PORT})?$|^[a-z]+://\[[0-9a-f:]+\](:{_PORT})?$",
    ),
]
"""An origin as browsers write it (RFC 6454, 6.1): lower case, no path. ``null`` and ``*`` are refused: both match any page."""

BasePath = Annotated[
    str,
    wanted("a path such as /auth, without / at the end", r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$"),
]
"""A path of plain segments, so that no reader decodes or normalises it. No segment is ``.`` or ``..``."""

SiteData = Annotated[Literal["cache", "storage"], wanted("cache or storage")]

_NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
RealmPath = Annotated[
    str,
    wanted("a realm as package.module:name, or a file path/to/it.toml", rf"^{_NAME}(\.{_NAME})*:{_NAME}$|\.toml$"),
]
Seconds = Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
RateText = Annotated[
    str, wanted("a rate such as 90/1m (a number, and how many s, m, h or d it is for), or off", RATE_PATTERN)
]
GroupText = Annotated[
    str,
    wanted(
        "the name of a group: printable ASCII, without commas, quotation marks, and blanks at the ends",
        r"^([!#-+\--~]([ !#-+\--~]*[!#-+\--~])?)?\Z",
    ),
]
"""Empty, or a name as in :data:`interlock.server.guard.groups.PATTERN`, which settings can't import."""
Algorithm = Annotated[Literal["RS256", "PS256", "ES256", "EdDSA"], wanted("RS256, PS256, ES256 or EdDSA")]


def doc(text: str) -> Meta:
    """Return the description of a setting."""
    return Meta(description=text)
