"""Secrets that must appear nowhere in any form, and the search for them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

_WINDOW = 16
_WORD = 8


class Canaries:
    """Secrets by name, and every form in which one could appear."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}
        self._by_word: defaultdict[int, set[bytes]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._needles)

    def add(self, what: str, secret: str) -> str:
        """Add ``secret``, all of whose characters are secret; for a token, pass its secret part."""
        for form, needle in _forms(secret):
            assert len(needle) >= _WINDOW, f"{what} as {form} is too short to be told from chance"
            self._search_for(needle, f"{what}, {form}")
        return secret

    def password(self, what: str, secret: str) -> str:
        """Add a password: in addition, none of its fast digests may appear."""
        for name in ("md5", "sha1", "sha256"):
            digest = hashlib.new(name, secret.encode(), usedforsecurity=False)
            for needle in (digest.digest(), digest.hexdigest().encode()):
                self._search_for(needle, f"{what}, {name}")
        return self.add(what, secret)

    def found(self, where: str, text: bytes) -> list[str]:
        """Return which of them ``text`` contains."""
        # A needle is at least two words long, so wherever it is in the text, it covers a whole word of it. To search the text
        # for each needle would take a minute.
        words = memoryview(text)[: len(text) // _WORD * _WORD].cast("Q")
        near = {needle for word in self._by_word.keys() & words for needle in self._by_word[word]}
        return [f"{self._needles[needle]} in {where}" for needle in near if needle in text]

    def found_in(self, *paths: Path) -> list[str]:
        """Return which of them are in files or below folders, byte by byte, or in the files' names."""
        found = []
        for path in (each for top in paths for each in (sorted(top.rglob("*")) if top.is_dir() else [top])):
            found += self.found(f"the name {path}", str(path).encode())
            found += self.found(str(path), content(path))
        return found

    def _search_for(self, needle: bytes, what: str) -> None:
        self._needles[needle] = what
        for start in range(_WORD):
            self._by_word[int.from_bytes(needle[start : start + _WORD], sys.byteorder)].add(needle)


def content(path: Path) -> bytes:
    """Return a file's content; empty if it is no file or gone since it was listed, since a running server replaces files."""
    with suppress(FileNotFoundError):
        if path.is_file():
            return path.read_bytes()
    return b""


def _forms(secret: str) -> Iterator[tuple[str, bytes]]:
    raw = secret.encode()
    yield "raw", raw
    for start in range(0, len(secret) - _WINDOW + 1, _WINDOW):
        yield "in part", secret[start : start + _WINDOW].encode()
    yield "UTF-16", secret.encode("utf-16-le")
    yield "percent-encoded", quote(secret, safe="").encode()
    yield "percent-encoded in small letters", quote(secret, safe="").lower().encode()
    yield "as a form", quote_plus(secret).encode()
    yield "percent-encoded throughout", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "JSON", json.dumps(secret)[1:-1].encode()
    yield "JSON twice", json.dumps(json.dumps(secret)[1:-1])[1:-1].encode()
    yield "escaped throughout", "".join(f"\\u{ord(character):04x}" for character in secret).encode()
    yield "repr", repr(secret)[1:-1].encode()
    yield "repr of the bytes", repr(raw)[2:-1].encode()
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield from _base64_forms(raw)
    try:
        decoded = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    except (binascii.Error, ValueError):
        return
    if len(decoded) >= _WINDOW and base64.urlsafe_b64encode(decoded).rstrip(b"=") == raw.rstrip(b"="):
        yield "decoded", decoded
        yield "decoded, hex", decoded.hex().encode()
        yield "decoded, base64", base64.b64encode(decoded).rstrip(b"=")


def _base64_forms(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Return base64 of any text with ``raw`` in it: at three offsets of a group, without the context-dependent ends."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            text = encode(b"\0" * before + raw).rstrip(b"=")
            # The first and the last group may hold bits of adjacent text.
            yield f"base64, {before} before", text[4 if before else 0 : len(text) - len(text) % 4 - 4]
