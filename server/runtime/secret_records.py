"""Records of secrets: compare the files with the log, and give the authority of a presented secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from interlock.machine.errors import AuthorityLost, Overloaded, SettingsError, SurfaceFailed
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.machine.secret.commands import Add, Purpose, Remove
from interlock.machine.secret.machine import SECRET_MACHINE, Secret, why_refused
from interlock.server.clock import Clock
from interlock.server.ids import new_id
from interlock.server.runtime.door import Door, commands
from interlock.server.runtime.feed import Feed
from interlock.server.surface.directory import Cursor, Directory, InstanceFilter
from interlock.server.system.supervision import progressed

_LOOK_EVERY_S: Final = 1.0
_CACHED: Final = 64
_PAGE: Final = 256

Look = Callable[[], Iterable[Add]]
"""Return the secrets in use for one purpose. Raise SettingsError if the files can't be read."""


class SecretRecords(Door[Secret]):
    """All secrets. ``looks`` return the secrets in use, by purpose. Their use never waits for a record."""

    def __init__(self, feed: Feed, clock: Clock, looks: Mapping[Purpose, Look]) -> None:
        super().__init__(SECRET_MACHINE, feed, clock, cache_limit=_CACHED)
        self._looks: Final = looks
        self._present: dict[Add, str] = {}
        self._turn = asyncio.Lock()

    async def restore(self, directory: Directory) -> None:
        """Load the secrets that are present in the log. Call it before the log is followed."""
        before: Cursor | None = None
        while page := await directory.page(SECRET_MACHINE, InstanceFilter("present"), before, _PAGE):
            before = Cursor.of(page[-1])
            self._present |= {each.added: each.secret_id for each in page if each.added is not None}

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
        """Record the differences between the secrets in use and those present in the log.

        Raises:
            Overloaded, SurfaceFailed: some differences were not recorded.
        """
        async with self._turn:
            for purpose, look in self._looks.items():
                try:
                    held = set(look())
                except SettingsError:
                    # An unreadable file is no removal. Calls that need these secrets are refused meanwhile.
                    continue
                present = {added: each for added, each in self._present.items() if added.purpose == purpose}
                for added in present.keys() - held:
                    await self.submit(present[added], *commands("server", Remove()))
                for added in held - present.keys():
                    await self.submit(new_id("sec"), *commands("server", added))

    @asynccontextmanager
    async def acting(self, added: Add) -> AsyncIterator[Authority]:
        """Give the authority of the presented secret ``added``, for the records of the call.

        Raises:
            AdminCredentialInvalid, ClientAuthenticationFailed: the removal of the secret was recorded first.
            Overloaded, SurfaceFailed: the secret is new and could not be recorded.
        """
        if added not in self._present:
            await self.compare()
        if added not in self._present:
            raise why_refused(added.purpose)
        try:
            yield Authority(SECRET_MACHINE.kind, self._present[added])
        except AuthorityLost:
            raise why_refused(added.purpose) from None

    def _apply(self, record: Record, instance: Secret | None) -> None:
        super()._apply(record, instance)
        move = record.transition
        if isinstance(move.data, Add):
            self._present[move.data] = move.instance_id
        else:
            self._present = {added: each for added, each in self._present.items() if each != move.instance_id}
