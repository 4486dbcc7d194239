"""The file beside the log that says where the log ended, signed: ``interlock.head``.

What is in it, and who signs, this module does not know. It writes what it is given, whole or not at all, after the records
it speaks of are on disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from machine.errors import HeadRefused
from machine.explain import broken_head
from machine.ledger import Receipt, Record
from machine.session import Session
from server.surface.archive import open_archive
from server.surface.files import LOG_NAME

_PAUSE_S: Final = 0.05
_MAX_BYTES: Final = 4096

_log = structlog.get_logger("interlock.head")


def read_text(path: Path) -> str | None:
    """What the head file at ``path`` holds, unchecked; None when there is none.

    Raises:
        HeadRefused: there is something, and it can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise HeadRefused("it is no signed head") from None
    except OSError as error:
        raise HeadRefused(f"it can't be read: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Put a new head in the place of the one at ``path``, if there is one: a crash leaves the one or the other.

    It belongs to whom the folder belongs to: what root writes by the command line, the server must be able to read.

    Raises:
        OSError: it can't be written.
    """
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        owner = path.parent.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(text.encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def check_log(data: Path, head: Receipt) -> None:
    """Check that the log in folder ``data`` holds the record that ``head`` was signed for. Nothing is written.

    Raises:
        HeadRefused: it does not: records were removed, or the log was rewritten.
        SurfaceFailed: the log can't be read.
    """
    if not (data / LOG_NAME).exists():
        raise HeadRefused(f"it speaks of {head.position} records, and there is no log at {data / LOG_NAME}")
    with open_archive(data) as archive:
        fault = broken_head(head, archive.receipt_at(head.position), archive.record_count())
    if fault is not None:
        raise HeadRefused(fault)


class HeadKeeper:
    """Writes the head anew while the log grows, at most every 50 ms, and never before the records it speaks of are on disk.

    ``sign`` makes the text for a record. ``newest`` is the last record of the log as it is opened. No acknowledgement waits
    for it: what was recorded in the last moment before a crash is not yet under a head.
    """

    def __init__(self, path: Path, sign: Callable[[Receipt], str], newest: Record | None) -> None:
        self._path = path
        self._sign = sign
        self._newest = newest
        self._renewals = 0
        self._written: tuple[Record, int] | None = None
        self._failing = False
        self._grown = asyncio.Event()
        self._grown.set()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="interlock-head")

    def observe(self, record: Record, _session: Session) -> None:
        """``record`` is on disk. Call it in the order of the log."""
        self._newest = record
        self._grown.set()

    def renew(self) -> None:
        """Write the head anew though the log has not grown: another key signs it now."""
        self._renewals += 1
        self._grown.set()

    async def close(self) -> None:
        """Write the last head. The caller has closed the log."""
        self._closing.set()
        self._grown.set()
        await self._task

    async def _run(self) -> None:
        last = False
        while not last:
            await self._grown.wait()
            self._grown.clear()
            last = self._closing.is_set()
            await self._write()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._closing.wait()

    async def _write(self) -> None:
        newest, renewals = self._newest, self._renewals
        if newest is None or (newest, renewals) == self._written:
            return
        try:
            await asyncio.to_thread(lambda: write_text(self._path, self._sign(newest.receipt)))
        except (OSError, RuntimeError, MemoryError) as error:
            # A RuntimeError says that no thread can be started. The log is whole without the head, so the service goes on; the
            # operator hears of it once, and it is tried again.
            if not self._failing:
                _log.error("head.failed", path=str(self._path), error=str(error) or type(error).__name__)
            self._failing = True
            self._grown.set()
            return
        self._failing = False
        self._written = (newest, renewals)
