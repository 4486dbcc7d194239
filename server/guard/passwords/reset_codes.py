"""Reset codes: short enough to read to somebody, and too long to guess."""

from __future__ import annotations

import secrets
from typing import Final

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, which leaves out the letters that look like digits."""

_LENGTH: Final = 24
"""120 bits. ASVS 6.5.4 asks for 20 with a limit of attempts, and 112 allow a fast hash (6.5.2)."""

_GROUP: Final = 4
_READ_AS: Final = str.maketrans("OIL", "011", "- \t")


def new_code() -> str:
    """Return a new code, in groups of four."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    return "-".join(letters[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def normalise_code(code: str) -> str:
    """Return ``code`` as it is compared: without dashes and blanks, in capitals, with digits for letters that look alike."""
    return code.upper().translate(_READ_AS)
