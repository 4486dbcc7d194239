"""The signed head at a start: its check against the log, and its signer from then on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from interlock.machine.errors import HeadRefused
from interlock.machine.ledger import EMPTY, Receipt
from interlock.server.guard.keys.heads import Head, check_head, sign_head
from interlock.server.guard.keys.keyset import SigningKey, load_public_keys
from interlock.server.settings import Settings
from interlock.server.surface.head import HeadKeeper, check_length, check_log, read_text
from interlock.server.surface.sqlite.files import Surface, exclusive_access
from interlock.server.system.permissions import refuse_writable
from interlock.server.system.supervision import Supervisor

_log = structlog.get_logger("interlock.server")


def read_checked(settings: Settings) -> Head | None:
    """Return the log's head after comparing it with the log; None if there is none, or the setting ``new_head`` ignores it.

    Nothing is written, so that a folder that was tampered with stays as it was found.

    Raises:
        HeadRefused: the head is invalid or does not match the log; the message says what to do.
        SurfaceFailed: the log is shorter than it must be.
        SurfaceLocked, SettingsError: the folder is in use, or other users may write to it or to the head.
    """
    data = Path(settings.data)
    check_length(data, settings.at_least)
    if settings.new_head:
        return None
    try:
        # `read_text` reports any other fault of the file.
        with suppress(OSError):
            refuse_writable(settings.head_path)
        text = read_text(settings.head_path)
        if text is None:
            return None
        head = check_head(text, load_public_keys(data / "keys"))
        # SQLite creates files while reading, so first check the permissions of the folder and its files.
        with exclusive_access(data):
            more = check_log(data, head.receipt, final=head.final)
    except HeadRefused as refused:
        raise _with_advice(settings, str(refused)) from None
    if more:
        _log.warning("head.behind", path=str(settings.head_path), records=more, signed=head.position)
    return head


def require(settings: Settings, head: Head | None, last: Receipt) -> None:
    """Refuse a log that has records but no head, unless the setting ``new_head`` is on.

    A server signs a head before its first record. So a missing head was removed, by someone who removed or added records.

    Raises:
        HeadRefused: there is no head.
    """
    if head is not None or last == EMPTY:
        return
    if not settings.new_head:
        raise _with_advice(settings, f"there is none, and the log holds {last.position} records")
    _log.warning("head.replaced", path=str(settings.head_path), records=last.position)


async def keep(
    settings: Settings,
    surface: Surface,
    supervisor: Supervisor,
    head: Head | None,
    signer: Callable[[], tuple[SigningKey, int]],
) -> HeadKeeper:
    """Sign a head for the last record, and keep it up to date until the log is closed. ``head`` is the present one.

    ``signer`` returns the key that signs now, and the time.

    Raises:
        HeadRefused: the head can't be written, and the next start would refuse the records made without it.
    """

    def sign(receipt: Receipt, final: bool) -> str:  # noqa: FBT001  # HeadKeeper says what it means
        key, now_ms = signer()
        return sign_head(receipt, key, now_ms, final=final)

    async def close() -> None:
        await keeper.close(surface.last() if surface.log.failure is None else None)

    if head is not None:
        surface.head_lag.signed(head.position)
    keeper = HeadKeeper(settings.head_path, sign, surface.head_lag, supervisor)
    surface.on_closed.push_async_callback(close)
    await keeper.start(surface.last(), required=head is None or head.final)
    return keeper


def _with_advice(settings: Settings, fault: str) -> HeadRefused:
    return HeadRefused(
        f"{settings.head_path}: {fault}. If the log, the head or the keys were exchanged on purpose (an older copy was"
        " restored, say), start once with --new-head, which signs the log as it is. If not, somebody changed them: keep"
        " everything as it is, and look at it with `interlock verify`"
    )
