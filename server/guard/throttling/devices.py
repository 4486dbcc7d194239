"""Device cookies: a browser has known an account's password, so what strangers try there must not use its own tries up.

Nothing is stored. A cookie says when it was made, when the password was set that its browser has known, and 128 random bits,
with a MAC of all that and of the account's email address under the refresh tokens' key. It opens nothing. It counts as
long as that password is the account's, for half a year at the longest, and while its key is kept: with a key that was stolen
and retired goes whatever the thief has made.
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
    """Where accounts are found: a part of :class:`interlock.server.runtime.accounts.accounts.Accounts`."""

    async def by_email(self, email: str) -> Owner | None:
        """The owner of this normalised email address, or None."""


class Devices:
    """Makes device cookies and knows them again. ``keys`` tells what the keys are at each moment: they are rotated."""

    def __init__(self, accounts: Accounts, clock: Clock, keys: Callable[[], Keys]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._keys = keys

    def issue(self, owner: Owner) -> str:
        """A new cookie for a browser whose user has just shown the password that ``owner`` has."""
        issued_s, set_at_ms = self._clock.now_ms() // 1000, owner.account.password_changed_at_ms
        said = f"{issued_s}.{set_at_ms}.{base64url(secrets.token_bytes(_NONCE_BYTES))}"
        return f"{said}.{_mac(self._keys().refresh_mac, said, owner.data.email or '')}"

    async def known(self, email: str, cookie: str | None) -> str | None:
        """What tells the device of ``cookie`` apart; None if the account of ``email`` does not know it, or not any more."""
        match = _COOKIE.match(cookie or "")
        if match is None:
            return None
        said, folded = ".".join(match.groups()[:3]), fold_email(email)
        # Every key is tried, whichever fits: how long it takes says nothing (ASVS 11.2.4).
        fits = [hmac.compare_digest(_mac(key, said, folded), match[4]) for key in self._keys().refresh_macs]
        if not any(fits) or self._clock.now_ms() // 1000 >= int(match[1]) + LIFE_S:
            return None
        # Only for who has a good cookie, and so knows that there is an account. Nobody else can tell by the time it takes.
        owner = await self._accounts.by_email(folded)
        if owner is None or owner.account.password_changed_at_ms != int(match[2]):
            return None
        return match[3]


def _mac(key: bytes, said: str, email: str) -> str:
    message = f"interlock device v1\n{said}\n{email}".encode("utf-8", "surrogatepass")
    return base64url(hmac.digest(key, message, hashlib.sha256))
