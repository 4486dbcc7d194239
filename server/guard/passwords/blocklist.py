"""Which passwords are among the first that anybody would try (NIST SP 800-63B-4, 3.1.1.2; ASVS 6.2.4, 6.2.11, 6.2.12).

A list of common passwords holds few of fifteen characters: people reach fifteen by putting common things together. So what is
asked is how many guesses the *whole* password would take whoever tries common things first: zxcvbn (Wheeler, USENIX Security
2016) over the lists that ship with it (the 30,000 most common passwords of known breaches, names, words of Wikipedia and of
film), their repetition, reversal, letters for digits, keyboard rows, sequences, dates, and the words that are near here: the
address, the service's name, what the setting ``password_context_words`` names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from zxcvbn_rs_py import zxcvbn

from interlock.machine.errors import PasswordRefused, SettingsError
from interlock.server.system.permissions import read_regular

EASY_LOG10: Final = 10.0
"""Passwords within the first 10^10 guesses are refused: two common words are, and three joined to one; four are not."""

EASY_JOINED_LOG10: Final = 8.0
"""And those that are within the first 10^8 once single separators between words are left out. zxcvbn makes more of a hyphen
or a space than it is worth where people put one as a matter of course."""

_PIECE: Final = 24
"""Characters looked at together. The time for some symbols grows with the third power; four words still fit."""

_MIN_WORD: Final = 3
_WORD: Final = re.compile(r"[^\W_]+")
_SEPARATOR: Final = re.compile(r"(?<=[^\W_])[\W_](?=[^\W_])")
"""One character between two words that is no letter and no digit."""


class Blocklist:
    """``service`` and ``words``: what is easy to guess here. ``path``: a file of more passwords, one a line; None for none.

    Raises:
        SettingsError: the file can't be read.
    """

    def __init__(self, service: str, words: Iterable[str], path: Path | None = None) -> None:
        self._near = _with_parts([service, "interlock", *words])
        self._listed: frozenset[str] = frozenset()
        if path is not None:
            try:
                self._listed = frozenset(_fold(line) for line in read_regular(path).decode().splitlines() if line)
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"password_blocklist: {path} can't be read: {error}") from None

    def check(self, password: str, personal: Iterable[str] = ()) -> None:
        """Check that ``password`` is not easy to guess for its owner, of whom ``personal`` tells (the email address).

        Takes some 20 ms for the worst passwords: not for the event loop.

        Raises:
            PasswordRefused: it is; the message says why and quotes nothing.
        """
        folded = _fold(password)
        if folded in self._listed:
            raise PasswordRefused("this password is on a list of known passwords; choose another")
        near = [*_with_parts(personal), *self._near]
        joined = _SEPARATOR.sub("", folded)
        if _is_easy(folded, near, EASY_LOG10) or (joined != folded and _is_easy(joined, near, EASY_JOINED_LOG10)):
            raise PasswordRefused(
                "this password is easy to guess: it is common, or made of few common words, names, dates, your email address,"
                " repetitions or sequences; choose another, such as four words that have nothing to do with each other"
            )


def _is_easy(text: str, near: list[str], easy_log10: float) -> bool:
    # What repeats itself is as easy to guess as what it repeats.
    unit = text[: (text + text).find(text, 1)]
    total = 0.0
    for piece in dict.fromkeys(unit[at : at + _PIECE] for at in range(0, len(unit), _PIECE)):
        total += float(zxcvbn(piece, near).guesses_log10)
        if total >= easy_log10:
            return False
    return True


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _with_parts(texts: Iterable[str]) -> list[str]:
    """``texts``, the words in them, and those without what separates them, folded, each once."""
    folded = [_fold(text) for text in texts]
    parts = [word for text in folded for word in [*_WORD.findall(text), _SEPARATOR.sub("", text)]]
    return [word for word in dict.fromkeys([*folded, *parts]) if len(word) >= _MIN_WORD]
