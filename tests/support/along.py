"""What is done along with a step, done by itself."""

from __future__ import annotations

from interlock.machine.errors import InterlockError
from interlock.server.guard.known_accounts import KnownAccounts
from interlock.server.surface.accounts import AccountStore
from interlock.server.surface.log import Along
from interlock.server.surface.sqlite.accounts import SqliteAccounts
from interlock.server.surface.sqlite.writer import raise_again


async def along(store: AccountStore, work: Along) -> type[Exception] | None:
    """Do ``work`` in a transaction of its own; the kind of error that it raises."""
    if isinstance(store, KnownAccounts):
        store = store._store
    assert isinstance(store, SqliteAccounts)
    try:
        await store._writer.submit(work, raise_again)
    except InterlockError as error:
        return type(error)
    return None
