"""Device cookies: a browser that knew an account's password keeps its own attempts, which strangers can't use up.

Nothing is stored. A cookie holds its creation time, the time at which the known password was set, and 128 random bits, with
a MAC over these and the account's email address under the refresh tokens' key. It grants no access. It is valid as long as
the account keeps that password, for half a year at most, and while its key is kept: retiring a stolen key also retires the
cookies that a thief made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from interlock.server.clock import Clock
from interlock.server.guard.emails import fold_email
from interlock.server.guard.keys.jose import base64url
from interlock.server.guard.keys.keyset import Keys
from interlock.server.surface.accounts import Owner

LIFE_S: Final = 180 * 86_400
_COOKIE: Final = re.compile(r"([0-9]{1,12})\.([0-9]{1,15})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})\Z")
_NONCE_BYTES: Final = 16


class Accounts(Protocol):
    """Looks up accounts; a part of :class:`interlock.server.runtime.accounts.accounts.Accounts`."""

    async def by_email(self, email: str) -> Owner | None:
        """Return the owner of this normalised email address, or None."""


class Devices:
    """Makes and recognises device cookies. ``keys`` returns the current keys, which rotate."""

    def __init__(self, accounts: Accounts, clock: Clock, keys: Callable[[], Keys]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._keys = keys

    def issue(self, owner: Owner) -> str:
        """Return a new cookie for a browser whose user has just shown the current password of ``owner``."""
        issued_s, set_at_ms = self._clock.now_ms() // 1000, owner.account.password_changed_at_ms
        said = f"{issued_s}.{set_at_ms}.{base64url(secrets.token_bytes(_NONCE_BYTES))}"
        return f"{said}.{_mac(self._keys().refresh_mac, said, owner.data.email or '')}"

    async def known(self, email: str, cookie: str | None) -> str | None:
        """Return the identifier of the device of ``cookie``; None if the account of ``email`` does not know it any more."""
        match = _COOKIE.match(cookie or "")
        if match is None:
            return None
        said, folded = ".".join(match.groups()[:3]), fold_email(email)
        # Every key is tried, so that the time reveals nothing (ASVS 11.2.4).
        fits = [hmac.compare_digest(_mac(key, said, folded), match[4]) for key in self._keys().refresh_macs]
        if not any(fits) or self._clock.now_ms() // 1000 >= int(match[1]) + LIFE_S:
            return None
        # Only for holders of a valid cookie, who know that there is an account. Nobody else can tell by the time.
        owner = await self._accounts.by_email(folded)
        if owner is None or owner.account.password_changed_at_ms != int(match[2]):
            return None
        return match[3]


def _mac(key: bytes, said: str, email: str) -> str:
    message = f"interlock device v1\n{said}\n{email}".encode("utf-8", "surrogatepass")
    return base64url(hmac.digest(key, message, hashlib.sha256))
