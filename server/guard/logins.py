"""Failed logins are slowed down, and nobody can lock the owner out by failing on purpose (ASVS 6.1.1, 6.3.1).

Each try is counted before the password is looked at, so that parallel tries can't overtake the count; one that succeeds is
given back. Which counters a try meets depends on whether it comes from somebody who has been there before:

* with a *device* cookie, which a successful login of this account left: that device's own counter;
* from an address at which this account has logged in since the start: the counter of that account at that address;
* from a stranger: that counter, the address's own over all accounts, and the account's over all strangers.

So strangers use up what strangers have, and nothing of the owner's. An account that does not exist is counted alike.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog

from machine.errors import CredentialInvalid
from machine.limits import Charge
from server.clock import Clock
from server.guard.accounts import fold_email
from server.guard.addresses import limit_key
from server.guard.limits import Gate
from server.guard.pseudonyms import Pseudonyms
from server.settings import Settings

_log = structlog.get_logger("interlock.security")

DEVICE_LIFE_S: Final = 180 * 86_400
_DEVICE: Final = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})\Z")
_NONCE_BYTES: Final = 16
_PLACES_PER_ACCOUNT: Final = 8
_ACCOUNTS: Final = 50_000


class Client(msgspec.Struct, frozen=True):
    """Who tries: the address, and what the device cookie holds, if there is one."""

    address: str
    device: str | None = None


class Trial(msgspec.Struct, frozen=True):
    """One counted try. ``known``: it comes from where this account has logged in before."""

    known: bool


class Logins:
    """Counts tries to log in. ``secret`` keys the device cookies; it outlives the process."""

    def __init__(self, settings: Settings, clock: Clock, secret: bytes, salt: bytes, pseudonyms: Pseudonyms) -> None:
        self._clock = clock
        self._device_key = hmac.digest(secret, b"interlock device v1", hashlib.sha256)
        self._pseudonyms = pseudonyms
        self._of_address = Gate("login", "address", settings.limit_login_address, clock, salt)
        self._of_client = Gate("login", "client", settings.limit_login_client, clock, salt)
        self._of_account = Gate("login", "account", settings.limit_login_account, clock, salt)
        # Account → addresses it logged in from. Only who knows a password gets in here, so nobody else can push it out.
        self._places: dict[str, dict[str, None]] = {}

    @contextmanager
    def trial(self, email: str, client: Client) -> Iterator[Trial]:
        """Count a try at the account of ``email``; the body raises CredentialInvalid when it failed.

        Raises:
            RateLimited: there were too many; the body was not run.
        """
        account, place = fold_email(email), limit_key(client.address)
        nonce = self._nonce(account, client.device)
        charges, known = self._charge(account, place, nonce)
        try:
            yield Trial(known)
        except CredentialInvalid:
            # No address of an account in the log; the same account has the same name there, whatever it is called.
            name = self._pseudonyms.of_email(email)
            _log.warning("login.failed", method="password", account=name, address=client.address, known=known)
            raise
        except BaseException:
            self._give_back(charges)
            raise
        self._give_back(charges)
        self._remember(account, place)

    def device(self, email: str) -> str:
        """A new device cookie for the account of ``email``, which has just logged in. It opens nothing."""
        issued_s = self._clock.now_ms() // 1000
        nonce = _base64url(secrets.token_bytes(_NONCE_BYTES))
        return f"{issued_s}.{nonce}.{self._mac(fold_email(email), issued_s, nonce)}"

    def _charge(self, account: str, place: str, nonce: str | None) -> tuple[list[tuple[Gate, Charge]], bool]:
        """Count the try where it belongs, and whether that is among those the account knows."""
        pair = f"place\n{account}\n{place}"
        if nonce is not None:
            device = f"device\n{account}\n{nonce}"
            if not self._of_client.wait_ms(device):
                return [(self._of_client, self._of_client.take(device))], True
            # A device that has failed too often is a stranger like any other.
        elif place in self._places.get(account, {}):
            return [(self._of_client, self._of_client.take(pair))], True
        wanted = [(self._of_client, pair), (self._of_address, place), (self._of_account, account)]
        for gate, key in wanted:
            wait_ms = gate.wait_ms(key)
            if wait_ms:
                gate.refuse(wait_ms)
        return [(gate, gate.take(key)) for gate, key in wanted], False

    @staticmethod
    def _give_back(charges: list[tuple[Gate, Charge]]) -> None:
        for gate, charge in charges:
            gate.give_back(charge)

    def _remember(self, account: str, place: str) -> None:
        places = self._places.pop(account, {})
        places.pop(place, None)
        places[place] = None
        if len(places) > _PLACES_PER_ACCOUNT:
            del places[next(iter(places))]
        self._places[account] = places
        if len(self._places) > _ACCOUNTS:
            del self._places[next(iter(self._places))]

    def _nonce(self, account: str, device: str | None) -> str | None:
        """What tells the device apart, if its cookie is ours, of this account, and not too old."""
        match = _DEVICE.match(device or "")
        if match is None:
            return None
        issued_s = int(match[1])
        expected = self._mac(account, issued_s, match[2])
        if not hmac.compare_digest(expected, match[3]) or self._clock.now_ms() // 1000 >= issued_s + DEVICE_LIFE_S:
            return None
        return match[2]

    def _mac(self, account: str, issued_s: int, nonce: str) -> str:
        message = f"{account}\n{issued_s}\n{nonce}".encode("utf-8", "surrogatepass")
        return _base64url(hmac.digest(self._device_key, message, hashlib.sha256))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
