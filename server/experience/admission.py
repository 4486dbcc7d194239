"""Admission, which every session and connection passes first. It reads the request; the guard holds the rules."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

from interlock.server.experience.credentials import DEVICE_COOKIE, cookie_named
from interlock.server.guard.passwords.hash_queue import Count, Ended, Requester
from interlock.server.guard.throttling.limits import LimitedAction
from interlock.server.guard.throttling.logins import Client, LoginAttempt
from interlock.server.runtime.accounts.accounts import Owner
from interlock.server.services import Services
from interlock.server.system.addresses import limit_key

ARRIVED: Final = "arrived_ns"
"""Key in a request's state: its arrival time in ns of the monotonic clock."""

_ADDRESS: Final = "address"

_SHORTEST: Final = 0.5
_LONGEST: Final = 1.5
"""A refusal is delayed by ``refusal_delay_s`` times a random factor between these."""

_DEVICE: Final = DEVICE_COOKIE.encode() + b"="


def note_address(services: Services, scope: Any) -> str:
    """Determine the client's address of a request or handshake, and store it in the scope. Call it once, first."""
    peer = scope.get("client")
    address = scope["state"][_ADDRESS] = services.addresses.client(peer[0] if peer else None, scope["headers"])
    return address


def address_of(scope: Any) -> str:
    """Return the client's address of a request or handshake."""
    address: str = scope["state"][_ADDRESS]
    return address


def limit_key_of(scope: Any) -> str:
    """Return the rate limit key of the client's address."""
    return limit_key(address_of(scope))


def admit(services: Services, scope: Any, kind: LimitedAction) -> None:
    """Count a request of ``kind`` by its client's address.

    Raises:
        RateLimited: there were too many.
    """
    address = address_of(scope)
    if services.addresses.counts(address):
        services.limits.of_address(kind, address)


def admit_account(services: Services, scope: Any, kind: LimitedAction, subject: str) -> None:
    """Count a request of ``kind`` for the account ``subject`` (an anonymous session's id if there is none).

    Raises:
        RateLimited: there were too many.
    """
    if services.addresses.counts(address_of(scope)):
        services.limits.of_account(kind, subject)


def login_of_account(services: Services, scope: Any, subject: str) -> AbstractContextManager[None]:
    """See :meth:`interlock.server.guard.throttling.limits.RateLimits.login_of_account`."""
    counts = services.addresses.counts(address_of(scope))
    return services.limits.login_of_account(subject) if counts else nullcontext()


@asynccontextmanager
async def hidden(services: Services, scope: Any, attempt: LoginAttempt) -> AsyncIterator[Count]:
    """Yield the counter of ``attempt``. While it is hidden, end the body by TimeoutError before the time of the hash shows.

    An attempt that counting makes hidden has the same limit, which starts at the request's arrival.
    """
    async with asyncio.timeout(None) as patience:

        def limit() -> None:
            if attempt.hidden:
                patience.reschedule(_hidden_until_s(services, scope))

        def count() -> Ended:
            ended = attempt.count()
            limit()
            return ended

        limit()
        yield count


def _hidden_until_s(services: Services, scope: Any) -> float | None:
    """Return until when, in event loop time, the delay of every refusal hides the work; None without a delay."""
    delay_s = services.settings.refusal_delay_s
    if not delay_s:
        return None
    arrived_ns: int = scope["state"][ARRIVED]
    return asyncio.get_running_loop().time() + _SHORTEST * delay_s - (time.monotonic_ns() - arrived_ns) / 1e9


async def slow_refusal(services: Services, headers: Iterable[tuple[bytes, bytes]], took_s: float) -> None:
    """Delay a refusal that has Retry-After in ``headers``, so that retrying gains little.

    ``took_s``: the time since the request arrived. The delay starts there, so it hides the work before the refusal.
    """
    if any(name == b"retry-after" for name, _ in headers):
        # Random, or clients refused together would return together.
        delay_s = services.settings.refusal_delay_s * random.uniform(_SHORTEST, _LONGEST)  # noqa: S311  # not a secret
        await asyncio.sleep(max(0.0, delay_s - took_s))


async def client_of(services: Services, scope: Any, email: str) -> Client:
    """Return the client that tries to log in to the account of ``email``."""
    device = await services.devices.known(email, cookie_named(scope, _DEVICE))
    return Client(address_of(scope), device)


@asynccontextmanager
async def counted_attempt(
    services: Services, scope: Any, email: str, method: str = "password"
) -> AsyncIterator[tuple[Requester, Count]]:
    """Yield who tries to show a secret of the account of ``email``, and the counter of failures.

    The attempt counts, and takes as long whatever is wrong.

    Raises:
        RateLimited: too many attempts.
    """
    client = await client_of(services, scope, email)
    with services.login_limits.attempt(email, client, method) as attempt:
        # Before the hash, which costs as much whether the request is refused or not.
        admit(services, scope, "login")
        with login_of_account(services, scope, f"{attempt.requester.known}\n{attempt.requester.account}"):
            async with hidden(services, scope, attempt) as count:
                yield attempt.requester, count


async def verify_login(services: Services, scope: Any, email: str, password: str) -> Owner:
    """Return the owner that ``email`` and ``password`` authenticate.

    Raises:
        CredentialInvalid: one of them is wrong; the message does not say which.
        AccountDisabled: both are right and the account is disabled.
        RateLimited, Overloaded: too many attempts, or too many hashes wait.
    """
    async with counted_attempt(services, scope, email) as (requester, count):
        owner = await services.logins.verify_password(requester, password, count)
    services.login_limits.remember(owner, address_of(scope))
    return owner
