"""What an account's groups may be called: the one rule for whoever names them and for what proxies are told.

Proxies hand them to the application in one header, between commas (ADR 42). So a name is what a header field carries unchanged
(RFC 9110, 5.5) and no reader of lists takes for two or for a quoted one (5.6.1, 5.6.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from interlock.machine.errors import GroupsRefused

PATTERN: Final = r"^[!#-+\--~]([ !#-+\--~]*[!#-+\--~])?$(?!\n)"
"""One name: printable ASCII without commas and quotation marks, and without blanks at the ends.

To Python ``$`` is also before a line end that ends the text; to JSON Schema what follows it here is always true.
"""

MAX_LENGTH: Final = 2048
"""Of all names together, with the commas: nginx reads the head of an answer into 4096 bytes, and the rest needs its own."""

_NAME: Final = re.compile(PATTERN)


def header_of(groups: Sequence[str]) -> str:
    """``groups`` as the value of a header, between commas.

    Raises:
        GroupsRefused: one of them is no name, or together they are too long.
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
    """``groups`` as an account has them: in order, and each once.

    Raises:
        GroupsRefused: one of them is no name, or together they are too long.
    """
    ordered = tuple(sorted(set(groups)))
    header_of(ordered)
    return ordered
