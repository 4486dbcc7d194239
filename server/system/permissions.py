"""Files that belong to one user: who else may touch them, and how they are written.

What others may write, others may exchange.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from interlock.machine.errors import SettingsError


def refuse_writable(path: Path) -> None:
    """Check that nobody but its owner may write to ``path``, a folder or a regular file, and that it is not somebody else's.

    Raises:
        SettingsError: others may, it is, or it is a pipe, a socket or a device.
        OSError: there is no telling.
    """
    status = path.stat()
    _refuse_irregular(path, status)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{path} may be written by others; forbid it: chmod go-w {path}{_by_fs_group(status)}")
    if os.geteuid() or not stat.S_ISDIR(status.st_mode):
        # At the command line root acts for whoever the folder belongs to.
        _refuse_foreign(path, status)


def refuse_open(folder: Path) -> None:
    """Check that ``folder`` is its owner's alone. Who may write to it can exchange keys; who may list it learns names.

    Raises:
        SettingsError: others than its owner may, or it belongs to somebody else.
        OSError: there is no telling.
    """
    status = folder.stat()
    if status.st_mode & 0o077:
        raise SettingsError(f"{folder} is open to others; make it private: chmod 700 {folder}{_by_fs_group(status)}")
    _refuse_foreign(folder, status)


def read_private(path: Path) -> bytes:
    """The content of ``path``.

    Raises:
        SettingsError: others than its owner may read it, it belongs to somebody else, or it is no regular file.
        OSError: it can't be read.
    """
    status = path.stat()
    _refuse_irregular(path, status)
    if status.st_mode & 0o077:
        raise SettingsError(f"{path} may be read by others; make it private: chmod 600 {path}{_by_fs_group(status)}")
    _refuse_foreign(path, status)
    return path.read_bytes()


def read_regular(path: Path, limit: int = -1) -> bytes:
    """The content of ``path``, or its first ``limit`` bytes. To open a pipe would wait for a writer, perhaps for ever.

    Raises:
        SettingsError: it is no regular file.
        OSError: it can't be read.
    """
    _refuse_irregular(path, path.stat())
    with path.open("rb") as file:
        return file.read(limit)


def write_private(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in the place of the one at ``path``, if there is one: a crash leaves the one or the other.

    When this returns, the new one is on disk, its name included: a power cut doesn't bring the old one back. It belongs to whom
    the folder belongs to: what root writes by the command line, the server must be able to read.

    Raises:
        OSError: it can't be written.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        owner = path.parent.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have it on disk which files ``folder`` holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    """Check that ``path`` is a regular file. Or a folder: whoever reads that is told so at once.

    Raises:
        SettingsError: it is a pipe, a socket or a device.
    """
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise SettingsError(f"{path} is not a regular file")


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Check that ``path`` belongs to the user that this runs as, or to root. Root may also act for whom the folder belongs to.

    Raises:
        SettingsError: it is somebody else's.
        OSError: there is no telling.
    """
    user = os.geteuid()
    trusted = {0, user} if user else {0, path.parent.stat().st_uid}
    if status.st_uid not in trusted:
        owner = max(trusted)
        raise SettingsError(
            f"{path} belongs to user {status.st_uid}, who may change it; give it to user {owner}: chown {owner} {path}"
        )


def _by_fs_group(status: os.stat_result) -> str:
    """What else to do where a group was let in, and nobody else: the end of a message."""
    if not status.st_mode & stat.S_IRWXG or status.st_mode & stat.S_IWOTH:
        return ""
    return (
        " (on Kubernetes fsGroup lets a group in at each mount: set fsGroupChangePolicy: OnRootMismatch, and as `data` a folder"
        " below the mount)"
    )
