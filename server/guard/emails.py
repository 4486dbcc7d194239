"""When two ways to write an email address are the same one.

Two domains that somebody else may own must not be one account, so the domain is read as IDNA 2008 reads it: ``straße.example``
and ``strasse.example`` are two (RFC 5891; UTS 46, non-transitional), and ``straße.example`` and its ``xn--`` form are one.
Case folding would merge the first two. With the dot of the root or without it is one domain, too (RFC 1034, 3.1):
``example.org.`` is ``example.org``.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import idna

from interlock.machine.errors import AccountError

_MAX_LENGTH: Final = 254
"""RFC 5321, 4.5.3.1.3, less the angle brackets."""


def fold_email(email: str) -> str:
    """``email`` as accounts are found by it, whatever its form: trimmed, NFC, in lower case, its domain as Unicode."""
    local, at, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    # At last: IDNA has more dots than one. That of the root says that the name is whole, as names of the internet are anyhow.
    return f"{_lower(local)}{at}{_fold_domain(domain).removesuffix('.')}"


def normalise_email(email: str) -> str:
    """``email`` as accounts are found by it (see :func:`fold_email`). Only its rough form is checked.

    Raises:
        AccountError: it has no form of an email address.
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
        # No domain of the internet's; perhaps one of a local network. It is compared as text.
        return lower


def _lower(text: str) -> str:
    # Lower case may take NFC away again.
    return unicodedata.normalize("NFC", text.lower())
