"""Data folders as a whole: what backup and restore copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from interlock.machine.errors import HeadRefused
from interlock.machine.ledger import Receipt
from interlock.server.surface.sqlite.archive import open_archive

if TYPE_CHECKING:
    from interlock.server.guard.keys.keyset import SigningKey

_DRAFT_SUFFIX: Final = ".new"
KEYS: Final = "keys"


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Remove ``folder`` if the context raises anything."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def copy_with_progress(source: Path, target: Path) -> None:
    """Copy the log in folder ``source`` to folder ``target``, and show how far it is on a terminal.

    Raises:
        SurfaceFailed, OSError: it can't be copied.
    """
    from interlock.server.surface.sqlite.copying import copy_log

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("copying")
        copy_log(source, target, lambda done, total: progress.update(task, completed=done, total=total))


def copy_keys(source: Path, target: Path, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    """Copy the files with keys and secrets in folder ``source`` whose names are ``wanted`` to the new folder ``target``.

    Return their names. A file that is removed meanwhile is left out.

    Raises:
        SettingsError: others may read one of them.
        OSError: one can't be read or written.
    """
    from interlock.server.system.permissions import create_private, create_private_folder, read_private

    create_private_folder(target)
    copied = []
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if path.name.endswith(_DRAFT_SUFFIX) or not path.is_file() or not wanted(path.name):
            continue
        try:
            status = path.stat()
            create_private(target / path.name, read_private(path))
        except FileNotFoundError:
            continue
        # A key without a start time of its own signs from the time of its file.
        os.utime(target / path.name, ns=(status.st_atime_ns, status.st_mtime_ns))
        copied.append(path.name)
    return copied


def end_of(folder: Path) -> tuple[Receipt, int]:
    """Return the receipt of the last record of the log in ``folder``, and the time of the newest one.

    Raises:
        SurfaceFailed: the log can't be read.
    """
    with open_archive(folder) as archive:
        end = archive.receipt_at(archive.record_count())
        assert end is not None  # noqa: S101  # both are of one snapshot
        return end, archive.latest_at_ms()


def seal(folder: Path, head_path: Path) -> None:
    """Sign with the keys in ``folder`` that its log ends where it ends, and write that head to ``head_path``.

    Raises:
        SettingsError: the keys can't be used.
        OSError: the head can't be written.
    """
    from interlock.server.guard.keys.heads import sign_head
    from interlock.server.surface.head import write_text

    end, latest_ms = end_of(folder)
    key, now_ms = signing_key(folder, latest_ms)
    write_text(head_path, sign_head(end, key, now_ms, final=True))


def signing_key(folder: Path, latest_ms: int) -> tuple[SigningKey, int]:
    """Return the key in ``folder`` that signs now, and the server's time, which is not before its newest record.

    Raises:
        SettingsError: the keys can't be used.
    """
    from interlock.server.cli.errors import keys_folder
    from interlock.server.clock import SystemClock
    from interlock.server.guard.keys.keyset import assemble, read_keys

    now_ms = SystemClock(floor_ms=latest_ms).now_ms()
    return assemble(read_keys(keys_folder(folder)), now_ms).signing, now_ms


def compare_with_head(copy: Path, text: str | None, keys: Path, *, final: bool) -> None:
    """Compare the end of the log in folder ``copy`` with the head ``text``, which the keys in folder ``keys`` have signed.

    ``final``: a head that says that the server had stopped is to be believed.

    Raises:
        HeadRefused: the log is not the one that was signed.
    """
    from interlock.server.guard.keys.heads import check_head
    from interlock.server.guard.keys.keyset import load_public_keys
    from interlock.server.surface.head import check_log

    if text is None:
        end, _ = end_of(copy)
        if end.position:
            raise HeadRefused(f"there is none, and the log holds {end.position} records")
        return
    head = check_head(text, load_public_keys(keys))
    check_log(copy, head.receipt, final=final and head.final)
