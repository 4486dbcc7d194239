"""Records of secrets: compare the files with the log, and give the authority of a presented secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from interlock.machine.errors import AuthorityLost, Overloaded, SettingsError, SurfaceFailed
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.machine.secret.commands import Add, Data, Purpose, Remove
from interlock.machine.secret.machine import SECRET_MACHINE, Secret, why_refused
from interlock.server.clock import Clock
from interlock.server.guard.keys.keyring import KeyRing, open_keyring
from interlock.server.guard.keys.rotation import TokenLifetimes
from interlock.server.guard.realm_secrets import RealmSecrets
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.webhook_files import WebhookFiles
from interlock.server.ids import new_id
from interlock.server.runtime.door import Door, commands
from interlock.server.runtime.feed import Feed
from interlock.server.settings import Settings
from interlock.server.surface.directory import Cursor, Directory, InstanceFilter
from interlock.server.system.supervision import progressed

_LOOK_EVERY_S: Final = 1.0
_CACHED: Final = 64
_PAGE: Final = 256
_AT_ONCE: Final = 64

Look = Callable[[], Iterable[Add]]
"""Return the secrets in use for one purpose. Raise SettingsError if the files can't be read."""


class SecretRecords(Door[Secret]):
    """All secrets. ``looks`` return the secrets in use, by purpose. To present one never waits for a record."""

    def __init__(self, feed: Feed, clock: Clock, looks: Mapping[Purpose, Look]) -> None:
        super().__init__(SECRET_MACHINE, feed, clock, cache_limit=_CACHED)
        self._looks: Final = looks
        self._present: dict[str, Add] = {}
        self._turn = asyncio.Lock()

    async def restore(self, directory: Directory) -> None:
        """Load the secrets that are present in the log. Call it before the log is followed."""
        before: Cursor | None = None
        while page := await directory.page(SECRET_MACHINE, InstanceFilter("present"), before, _PAGE):
            before = Cursor.of(page[-1])
            self._present |= {each.secret_id: each.added for each in page if each.added is not None}

    async def run(self) -> None:
        """Compare once a second, until cancelled."""
        while True:
            progressed()
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.compare()
            except (Overloaded, SurfaceFailed):
                # The difference remains, and is recorded at the next comparison, or by the next start if the log has stopped.
                continue

    async def compare(self) -> None:
        """Record how the secrets that count differ from those that the log holds.

        Raises:
            Overloaded, SurfaceFailed: some of it is not recorded.
        """
        # In a task of its own. If the caller were cancelled, the next comparison would not know what is under way.
        comparing = asyncio.ensure_future(self._compare())
        comparing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(comparing)

    async def _compare(self) -> None:
        async with self._turn:
            removed: list[tuple[str, Data]] = []
            new: list[tuple[str, Data]] = []
            for purpose, look in self._looks.items():
                try:
                    missing = set(look())
                except SettingsError:
                    # Nobody can tell what was removed. Calls that need one of these secrets are refused, and say why.
                    continue
                for secret_id, added in self._present.items():
                    if added.purpose == purpose and added not in missing:
                        removed.append((secret_id, Remove()))
                    missing.discard(added)
                new += [(new_id("sec"), added) for added in missing]
            await self._record(removed)
            await self._record(new)

    async def _record(self, changes: list[tuple[str, Data]]) -> None:
        """Record ``changes``, some at a time, in any order. Return when all under way are answered.

        Raises:
            Overloaded, SurfaceFailed: some of it is not recorded.
        """
        for first in range(0, len(changes), _AT_ONCE):
            progressed()
            some = [self.submit(each, *commands("server", data)) for each, data in changes[first : first + _AT_ONCE]]
            for outcome in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    @asynccontextmanager
    async def acting(self, added: Add) -> AsyncIterator[Authority]:
        """Give the authority of the presented secret ``added``, for the records of the call.

        Raises:
            AdminCredentialInvalid, ClientAuthenticationFailed: the removal of the secret was recorded first.
            Overloaded, SurfaceFailed: the secret is new and could not be recorded.
        """
        if added not in self._present.values():
            await self.compare()
        secret_id = next((each for each, present in self._present.items() if present == added), None)
        if secret_id is None:
            raise why_refused(added.purpose)
        try:
            yield Authority(SECRET_MACHINE.kind, secret_id)
        except AuthorityLost:
            raise why_refused(added.purpose) from None

    def _apply(self, record: Record, instance: Secret | None) -> None:
        super()._apply(record, instance)
        move = record.transition
        if isinstance(move.data, Add):
            self._present[move.instance_id] = move.data
        else:
            self._present.pop(move.instance_id, None)


class OpenedSecrets(msgspec.Struct):
    """The keys, the secrets of others, and their records."""

    ring: KeyRing
    admins: Secrets
    clients: Secrets
    subscribers: Secrets
    webhooks: WebhookFiles
    records: SecretRecords


async def open_secrets(settings: Settings, clock: Clock, feed: Feed, directory: Directory) -> OpenedSecrets:
    """Return the keys and secrets in the folder of keys. Nothing is recorded yet.

    Raises:
        SettingsError: a file can't be used.
    """
    keys = Path(settings.data) / "keys"
    lifetimes = TokenLifetimes(settings.access_token_s * 1000, settings.policy.absolute_timeout_ms)
    ring = open_keyring(keys, clock, lifetimes)
    admins, clients, subscribers = Secrets(keys, "admin"), Secrets(keys, "client"), Secrets(keys, "subscriber")
    webhooks = WebhookFiles(keys)
    admins.names()  # what can't be read is said now, not at the first use
    looks: dict[Purpose, Look] = {
        "signing": partial(ring.held, "signing"),
        "refresh": partial(ring.held, "refresh"),
        "admin": admins.held,
        "client": clients.held,
        "subscriber": subscribers.held,
        "webhook": lambda: webhooks.held(clock.now_ms()),
        "realm": RealmSecrets(keys).held,
    }
    records = SecretRecords(feed, clock, looks)
    await records.restore(directory)
    return OpenedSecrets(ring, admins, clients, subscribers, webhooks, records)
