"""JSON that everybody reads in the same way, and in the same time."""

from __future__ import annotations

import json
import math
from typing import Any, Final

_EXACT: Final = 2**53
"""Beyond this, a float does not say which integer it was."""


def unambiguous_json(raw: bytes) -> Any:
    """Parse ``raw`` as JSON without duplicate members, of which readers choose differently (RFC 8259, 4).

    Raises:
        ValueError: a member is duplicated, or ``raw`` is not JSON; ``NaN`` and ``Infinity`` are Python's extensions.
        RecursionError: it is nested too deeply.
    """
    return _unambiguous.decode(raw.decode())


def portable_json(raw: bytes) -> Any:
    """Parse ``raw`` as :func:`unambiguous_json`, and its numbers as JSON Schema reads them: ``5.0`` is the integer 5.

    Let ``msgspec.convert`` make the declared types of it. msgspec's own decoder takes 30 µs for each of some numbers, such as
    ``1e308``, a thousand times as long as for others.

    Raises:
        ValueError: as there, or a number is too large for a float, or a text has half a surrogate pair, which has no UTF-8.
        RecursionError: it is nested too deeply.
    """
    value = _portable.decode(raw.decode())
    if b"\\u" in raw:
        canonical_json(value)
    return value


def canonical_json(value: Any) -> str:
    """Return the JSON of ``value``, a parsed one, with sorted names and without white space.

    Raises:
        ValueError: a text has half a surrogate pair.
        RecursionError: it is nested too deeply.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    text.encode()
    return text


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_name: str) -> None:
    raise ValueError


def _number(text: str) -> int | float:
    number = float(text)
    if math.isinf(number):
        raise ValueError
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


_unambiguous: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse_constant)
_portable: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse_constant, parse_float=_number)
