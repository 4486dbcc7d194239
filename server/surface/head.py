"""The file beside the log that says where the log ended, signed: ``interlock.head``.

What is in it, and who signs, this module does not know. It writes what it is given, whole or not at all, after the records
it speaks of are on disk.
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
"""How often the keeper shows, while nothing is recorded, that it goes on."""
_MAX_BYTES: Final = 4096

_log = structlog.get_logger("interlock.head")


def read_text(path: Path) -> str | None:
    """What the head file at ``path`` holds, unchecked; None when there is none.

    Raises:
        HeadRefused: there is something, and it can't be read.
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
    """Put a new head in the place of the one at ``path``, if there is one.

    Raises:
        OSError: it can't be written.
    """
    write_private(path, text.encode("ascii") + b"\n")


def check_log(data: Path, head: Receipt, *, final: bool) -> int:
    """Check that the log in folder ``data`` holds the record that ``head`` was signed for. Nothing is written.

    Return how many records follow it. ``final``: the head was signed at a clean stop, so there must be none.

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
    """Check that the log in folder ``data`` holds record ``at_least``; 0 asks for nothing. Nothing is written.

    Raises:
        SurfaceFailed: it doesn't, or can't be read.
    """
    if not at_least:
        return
    with open_archive(data) as archive:
        fault = short_of(at_least, archive.record_count())
    if fault is not None:
        raise SurfaceFailed(f"{data / LOG_NAME}: {fault}")


class HeadKeeper:
    """Writes the head anew while the log grows, at most every 50 ms, and never before the records it speaks of are on disk.

    ``sign`` makes the text for a record, and says that the log ends there if its second argument is true. ``lag`` is told of
    each head that is on disk. No acknowledgement waits for the head: what was recorded in the last moment before a crash is
    not yet under one.
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
        """Whether the last try to write it failed."""
        return self._failing

    async def start(self, newest: Receipt, *, required: bool) -> None:
        """Write the head for ``newest``, the last record of the log as it is opened, and keep it up from then on.

        ``required``: there is no head on disk, or it says that the log ends at ``newest``. It must be replaced before anything
        is recorded, or the next start would take what follows for forged.

        Raises:
            HeadRefused: it can't be written, and is required.
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
        """``record`` is on disk. Call it in the order of the log."""
        self._newest = record.receipt
        self._grown.set()

    def renew(self) -> None:
        """Write the head anew though the log has not grown: another key signs it now."""
        self._renewals += 1
        self._grown.set()

    async def close(self, last: Receipt | None) -> None:
        """Stop. After a clean stop ``last`` is the last record, and the head says that the log ends there.

        The caller has closed the log. None after a failure: what is on disk is not known then.
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
        # Also when the supervisor calls this again.
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
        """Write the head for ``receipt``; whether it is on disk."""
        try:
            await asyncio.to_thread(lambda: write_text(self._path, self._sign(receipt, final)))
        except (OSError, RuntimeError, MemoryError) as error:
            # A RuntimeError says that no thread can be started. The log is whole without the head, so the service goes on; the
            # operator hears of it once, and it is tried again.
            if not self._failing:
                _log.error("head.failed", path=str(self._path), error=str(error) or type(error).__name__)
            self._failing = True
            return False
        self._failing = False
        return True
