"""What an intent may be: the rule of its id, the form in which its parameters are compared, and the limits of all sizes."""

from __future__ import annotations

import re
from typing import Any, Final

from interlock.machine.errors import IntentIdRefused, ParametersRefused
from interlock.strict_json import canonical_json, portable_json

MAX_INTENT_ID_CHARACTERS: Final = 128

INTENT_ID_PATTERN: Final = r"[^/\x00-\x1f\x7f-\x9f]+"
"""The characters of the id that a client gives an intent.

``/`` is for the ids of intents that executions submit. Control characters can forge lines of logs.
"""

MAX_PARAMETERS_BYTES: Final = 64 * 1024
"""The largest JSON of an intent's parameters, as the client sends it and in canonical form."""

MAX_RESULT_BYTES: Final = 64 * 1024
"""The largest JSON of a result."""

MAX_PROGRESS_BYTES: Final = 16 * 1024
"""The largest JSON of one emitted value."""

MAX_ERROR_CHARACTERS: Final = 1000
"""How much of an error's text is kept."""

_INTENT_ID: Final = re.compile(INTENT_ID_PATTERN)
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, which has no UTF-8 and which no JSON that was accepted contains."""


def check_intent_id(intent_id: str) -> None:
    """Check the id that a client gives an intent.

    Raises:
        IntentIdRefused: it is not 1 to 128 characters of :data:`INTENT_ID_PATTERN`, or has no UTF-8.
    """
    fits = len(intent_id) <= MAX_INTENT_ID_CHARACTERS and _INTENT_ID.fullmatch(intent_id)
    if not fits or _HALF_A_PAIR.search(intent_id):
        raise IntentIdRefused(
            f"an intent's id has 1 to {MAX_INTENT_ID_CHARACTERS} characters, without / and control characters"
        )


def read_parameters(raw: bytes) -> Any:
    """Return what the JSON ``raw`` says.

    Raises:
        ParametersRefused: it is too large, or not JSON.
    """
    if len(raw) > MAX_PARAMETERS_BYTES:
        raise ParametersRefused("", f"{len(raw)} bytes of JSON; the limit is {MAX_PARAMETERS_BYTES}")
    try:
        return portable_json(raw)
    except (ValueError, RecursionError):
        raise _malformed() from None


def canonical_parameters(raw: bytes) -> str:
    """Return the JSON ``raw`` with sorted names and without white space: the form in which repeats are compared.

    Raises:
        ParametersRefused: it is too large, or not JSON.
    """
    value = read_parameters(raw)
    try:
        return canonical_json(value)
    except RecursionError:
        raise _malformed() from None


def _malformed() -> ParametersRefused:
    return ParametersRefused("", "not valid JSON, a name twice, or nested too deeply")
