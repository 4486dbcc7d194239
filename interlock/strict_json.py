"""JSON that everybody reads in the same way, and in the same time."""

from __future__ import annotations

import json
from typing import Any, Final


def unambiguous_json(raw: bytes) -> Any:
    """Parse ``raw`` as JSON without duplicate members, of which readers choose differently (RFC 8259, 4).

    Use it for what a client sent, and let ``msgspec.convert`` make the types of it. msgspec's own decoder takes 30 µs for each
    of some numbers, such as ``1e308``, a thousand times as long as for others.

    Raises:
        ValueError: a member is duplicated, or ``raw`` is not JSON; ``NaN`` and ``Infinity`` are Python's extensions.
        RecursionError: it is nested too deeply.
    """
    return _unambiguous.decode(raw.decode())


def canonical_json(value: Any) -> str:
    """Return the JSON of ``value``, a parsed one, with sorted names and without white space.

    Raises:
        ValueError: a number is too large for a float, or a text has half of a surrogate pair.
        RecursionError: it is nested too deeply.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    text.encode()
    return text


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_name: str) -> None:
    raise ValueError


_unambiguous: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse_constant)
