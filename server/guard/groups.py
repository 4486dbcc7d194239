"""Names of groups: one rule for accounts and for the header that proxies receive.

Proxies pass the groups to the application in one header, separated by commas (ADR 42). So a name may hold only what a field
value carries unchanged (RFC 9110, 5.5) and what no list parser splits or takes for a quoted string (5.6.1, 5.6.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from interlock.machine.errors import GroupsRefused

PATTERN: Final = r"^[!#-+\--~]([ !#-+\--~]*[!#-+\--~])?$(?!\n)"
"""One name: printable ASCII without commas and quotation marks, and without leading and trailing spaces. In Python ``$``
also matches before a final line feed, which the lookahead excludes; in JSON Schema the lookahead is always true."""

MAX_LENGTH: Final = 2048
"""Limit of the joined names, commas included. nginx reads a response head into 4096 bytes, which other fields share."""

_NAME: Final = re.compile(PATTERN)


def header_of(groups: Sequence[str]) -> str:
    """Return ``groups`` as a header value, separated by commas.

    Raises:
        GroupsRefused: a name is invalid, or together they are too long.
    """
    if not all(map(_NAME.match, groups)):
        raise GroupsRefused(
            "a group name is printable ASCII, without commas, quotation marks, and leading or trailing spaces"
        )
    header = ",".join(groups)
    if len(header) > MAX_LENGTH:
        raise GroupsRefused(f"the group names with their commas have more than {MAX_LENGTH} characters")
    return header


def named(groups: Sequence[str]) -> tuple[str, ...]:
    """Return ``groups`` as an account stores them: sorted, without duplicates.

    Raises:
        GroupsRefused: a name is invalid, or together they are too long.
    """
    ordered = tuple(sorted(set(groups)))
    header_of(ordered)
    return ordered
