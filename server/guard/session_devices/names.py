"""A short name of a client's software, from its User-Agent header (RFC 9110, 10.1.5).

Only words of this table, or the product name that a program sends, so that what is stored is short, readable and says no more
of its owner than they need to recognise a session.
"""

from __future__ import annotations

import re
from typing import Final

UNKNOWN: Final = "unknown"

_BROWSERS: Final = {
    # The first that is named: most browsers also name those that they are compatible with.
    "Edg/": "Edge",
    "EdgA/": "Edge",
    "EdgiOS/": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "FxiOS/": "Firefox",
    "Firefox/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS: Final = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "Linux": "Linux",
}
_PRODUCT: Final = re.compile(r"([A-Za-z][A-Za-z-]{1,19})/[0-9]")
"""A product with its version. Letters only: a secret that a client sends by mistake is none."""


def device_name(user_agent: str) -> str:
    """Return a name such as "Firefox on Linux", or "curl" for a program; :data:`UNKNOWN` if there is nothing to tell."""
    browser = _named(_BROWSERS, user_agent)
    system = _named(_SYSTEMS, user_agent)
    if browser:
        return f"{browser} on {system}" if system else browser
    product = _PRODUCT.match(user_agent)
    return product[1] if product and product[1] != "Mozilla" else UNKNOWN


def _named(names: dict[str, str], user_agent: str) -> str | None:
    return next((name for mark, name in names.items() if mark in user_agent), None)
