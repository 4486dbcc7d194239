"""Normalisation of email addresses, so that different spellings of one address find one account.

Two domains that may have different owners must not share an account, so the domain follows IDNA 2008: ``straße.example``
and ``strasse.example`` differ (RFC 5891; UTS 46, non-transitional), and ``straße.example`` equals its ``xn--`` form. Case
folding would merge the first two. The trailing root dot is dropped: ``example.org.`` is ``example.org`` (RFC 1034, 3.1).
"""

from __future__ import annotations

import unicodedata
from typing import Final

import idna

from interlock.machine.errors import AccountError

_MAX_LENGTH: Final = 254
"""RFC 5321, 4.5.3.1.3, less the angle brackets."""


def fold_email(email: str) -> str:
    """Return ``email`` as accounts are stored, without checking it: trimmed, NFC, lower case, its domain in Unicode."""
    local, at, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    # Last, because IDNA maps several characters to a dot. The root dot marks a name as absolute, as Internet names are anyway.
    return f"{_lower(local)}{at}{_fold_domain(domain).removesuffix('.')}"


def normalise_email(email: str) -> str:
    """Return ``email`` as accounts are stored (see :func:`fold_email`), after a rough check of its form.

    Raises:
        AccountError: it does not look like an email address.
    """
    normalised = fold_email(email)
    local, _, domain = normalised.rpartition("@")
    if not (local and domain) or len(normalised) > _MAX_LENGTH:
        raise AccountError("not an email address")
    if not normalised.isprintable() or " " in normalised:
        raise AccountError("not an email address")
    return normalised


def _fold_domain(domain: str) -> str:
    lower = _lower(domain)
    if lower.isascii() and "xn--" not in lower:
        return lower
    try:
        return idna.decode(idna.encode(domain, uts46=True))
    except (idna.IDNAError, UnicodeError):
        # Not an Internet domain; perhaps a local one. Compare it as text.
        return lower


def _lower(text: str) -> str:
    # Lower-casing can undo NFC.
    return unicodedata.normalize("NFC", text.lower())
