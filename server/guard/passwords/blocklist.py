"""Rejection of passwords that are easy to guess (NIST SP 800-63B-4, 3.1.1.2; ASVS 6.2.4, 6.2.11, 6.2.12).

Lists of common passwords hold few of fifteen characters: people reach fifteen by joining common parts. So the number of
guesses for the *whole* password is estimated, common things first: zxcvbn (Wheeler, USENIX Security 2016) with the lists
that ship with it (the 30,000 most common passwords of known breaches, names, words of Wikipedia and of film), their
repetition, reversal, letters for digits, keyboard rows, sequences, dates, and words specific to the account and the
service: the email address, the service's name, the setting ``password_context_words``.
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
"""Passwords within the first 10^10 guesses are refused: two common words, or three joined to one; four pass."""

EASY_JOINED_LOG10: Final = 8.0
"""The limit for the password without single separators between words. zxcvbn overrates a hyphen or a space where people put
one by habit."""

_PIECE: Final = 24
"""Characters scored together. For some symbols the time grows with the third power; four words still fit."""

_MIN_WORD: Final = 3
_WORD: Final = re.compile(r"[^\W_]+")
_SEPARATOR: Final = re.compile(r"(?<=[^\W_])[\W_](?=[^\W_])")
"""A single character between two words that is neither letter nor digit."""


class Blocklist:
    """Rejects ``service`` and ``words``, which are easy to guess here, and the lines of the file ``path``, if given.

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
        """Check that ``password`` is hard to guess. ``personal``: what is known of its owner (the email address).

        The worst passwords take some 20 ms, so don't call it on the event loop.

        Raises:
            PasswordRefused: it is easy; the message says why and quotes nothing.
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
    # A repetition is as easy to guess as its unit.
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
    """Return ``texts``, their words, and ``texts`` without separators, all folded and without duplicates."""
    folded = [_fold(text) for text in texts]
    parts = [word for text in folded for word in [*_WORD.findall(text), _SEPARATOR.sub("", text)]]
    return [word for word in dict.fromkeys([*folded, *parts]) if len(word) >= _MIN_WORD]
