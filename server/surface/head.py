"""The signed head, ``interlock.head``: the file beside the log that states where the log ends.

This module does not know the file's content or its signer. It writes a given text atomically, after the records that the text
covers are on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from interlock.machine.errors import HeadRefused, SettingsError, SurfaceFailed
from interlock.machine.explain import beyond_head, broken_head, short_of
from interlock.machine.ledger import EMPTY, Receipt, Record
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.surface.sqlite.log import HeadLag
from interlock.server.system.permissions import read_regular, write_private
from interlock.server.system.supervision import Supervisor, progressed

_PAUSE_S: Final = 0.05
_LOOK_S: Final = 1.0
"""How often the keeper reports progress to the supervisor while nothing is recorded."""
_MAX_BYTES: Final = 4096

_log = structlog.get_logger("interlock.head")


def read_text(path: Path) -> str | None:
    """Return the text of the head file at ``path``, unchecked; None if there is no file.

    Raises:
        HeadRefused: the file can't be read.
    """
    try:
        return read_regular(path, _MAX_BYTES).decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise HeadRefused("it is not a signed head") from None
    except SettingsError as refused:
        raise HeadRefused(str(refused)) from None
    except OSError as error:
        raise HeadRefused(f"it can't be read: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Replace the head at ``path``, or create it.

    Raises:
        OSError: the file can't be written.
    """
    write_private(path, text.encode("ascii") + b"\n")


def check_log(data: Path, head: Receipt, *, final: bool) -> int:
    """Check that the log in folder ``data`` holds the record that ``head`` covers. Return how many records follow it.

    Nothing is written. ``final``: the head was signed at a clean stop, so no record may follow.

    Raises:
        HeadRefused: records were removed, the log was rewritten, or records follow that the server didn't write.
        SurfaceFailed: the log can't be read.
    """
    if not (data / LOG_NAME).exists():
        raise HeadRefused(f"it covers {head.position} records, and there is no log at {data / LOG_NAME}")
    with open_archive(data) as archive:
        end = archive.record_count()
        fault = broken_head(head, archive.receipt_at(head.position), end)
    fault = fault or beyond_head(head.position, end, final=final)
    if fault is not None:
        raise HeadRefused(fault)
    return end - head.position


def check_length(data: Path, at_least: int) -> None:
    """Check that the log in folder ``data`` holds record ``at_least``; 0 skips the check. Nothing is written.

    Raises:
        SurfaceFailed: the record is missing, or the log can't be read.
    """
    if not at_least:
        return
    with open_archive(data) as archive:
        fault = short_of(at_least, archive.record_count())
    if fault is not None:
        raise SurfaceFailed(f"{data / LOG_NAME}: {fault}")


class HeadKeeper:
    """Rewrites the head while the log grows, at most every 50 ms, and only after the records that it covers are on disk.

    ``sign`` returns the text for a record; a second argument of True states that the log ends there. ``lag`` is notified of
    each head that is on disk. Acknowledgements do not wait for the head, so it may not cover the last records before a crash.
    """

    def __init__(self, path: Path, sign: Callable[[Receipt, bool], str], lag: HeadLag, supervisor: Supervisor) -> None:
        self._path = path
        self._sign = sign
        self._lag = lag
        self._supervisor = supervisor
        self._newest = EMPTY
        self._renewals = 0
        self._written: tuple[Receipt, int] | None = None
        self._failing = False
        self._grown = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write the head failed."""
        return self._failing

    async def start(self, newest: Receipt, *, required: bool) -> None:
        """Write the head for ``newest``, the last record of the log as opened, and keep it up to date from then on.

        ``required``: there is no head on disk, or it states that the log ends at ``newest``. It must be replaced before
        anything is recorded, or the next start would treat the new records as forged.

        Raises:
            HeadRefused: the head is required and can't be written.
        """
        self._newest = newest
        await self._write()
        if self._failing and required:
            raise HeadRefused(
                f"{self._path} can't be written: without a new head, the next start would refuse what is recorded from now on."
                " The line `head.failed` says what is in the way"
            )
        self._task = self._supervisor.start("head", self._run)

    def observe(self, record: Record, _instance: object) -> None:
        """Note that ``record`` is on disk. Call it in the order of the log."""
        self._newest = record.receipt
        self._grown.set()

    def renew(self) -> None:
        """Rewrite the head although the log has not grown, because another key signs it now."""
        self._renewals += 1
        self._grown.set()

    async def close(self, last: Receipt | None) -> None:
        """Stop. After a clean stop, write a head which states that the log ends at ``last``.

        Close the log first. Pass None after a failure, because then it is not known what is on disk.
        """
        if self._task is None:
            return
        self._closing.set()
        self._grown.set()
        await self._task
        if last is not None:
            await self._put(last, final=True)

    async def _run(self) -> None:
        last = False
        # The supervisor may call this again after a failure: write once without waiting for a record.
        self._grown.set()
        while not last:
            progressed()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._grown.wait()
            self._grown.clear()
            last = self._closing.is_set()
            await self._write()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._closing.wait()

    async def _write(self) -> None:
        newest, renewals = self._newest, self._renewals
        if (newest, renewals) == self._written:
            return
        if await self._put(newest, final=False):
            self._written = (newest, renewals)
            self._lag.signed(newest.position)
        else:
            self._grown.set()

    async def _put(self, receipt: Receipt, *, final: bool) -> bool:
        """Write the head for ``receipt``. Return whether it is on disk."""
        try:
            await asyncio.to_thread(lambda: write_text(self._path, self._sign(receipt, final)))
        except (OSError, RuntimeError, MemoryError) as error:
            # RuntimeError: no thread can be started. The log is complete without the head, so the server continues, logs the
            # failure once and retries.
            if not self._failing:
                _log.error("head.failed", path=str(self._path), error=str(error) or type(error).__name__)
            self._failing = True
            return False
        self._failing = False
        return True
