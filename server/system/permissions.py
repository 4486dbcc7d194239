"""Checks and writes private files. Whoever may write to a file's folder may replace the file."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from interlock.machine.errors import SettingsError


def refuse_writable(path: Path) -> None:
    """Check that only its owner may write to ``path``, a folder or regular file of this user or root.

    Raises:
        SettingsError: others may write to it or own it, or it is a pipe, a socket or a device.
        OSError: it can't be checked.
    """
    status = path.stat()
    _refuse_irregular(path, status)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{path} may be written by others; forbid it: chmod go-w {path}{_by_fs_group(status)}")
    if os.geteuid() or not stat.S_ISDIR(status.st_mode):
        # On the command line, root acts for the folder's owner.
        _refuse_foreign(path, status)


def refuse_open(folder: Path) -> None:
    """Check that ``folder`` is its owner's alone. A writer could replace keys, and a reader learns names.

    Raises:
        SettingsError: others may access it or own it.
        OSError: it can't be checked.
    """
    status = folder.stat()
    if status.st_mode & 0o077:
        raise SettingsError(f"{folder} is open to others; make it private: chmod 700 {folder}{_by_fs_group(status)}")
    _refuse_foreign(folder, status)


def read_private(path: Path) -> bytes:
    """Return the content of ``path``.

    Raises:
        SettingsError: others may read it or own it, or it is not a regular file.
        OSError: it can't be read.
    """
    status = path.stat()
    _refuse_irregular(path, status)
    if status.st_mode & 0o077:
        raise SettingsError(f"{path} may be read by others; make it private: chmod 600 {path}{_by_fs_group(status)}")
    _refuse_foreign(path, status)
    return path.read_bytes()


def read_regular(path: Path, limit: int = -1) -> bytes:
    """Return the content of ``path``, or its first ``limit`` bytes. A pipe is refused: opening it could block for ever.

    Raises:
        SettingsError: it is not a regular file.
        OSError: it can't be read.
    """
    _refuse_irregular(path, path.stat())
    with path.open("rb") as file:
        return file.read(limit)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 atomically: after a crash, ``path`` has the old or the new content.

    On return the file and its name are on disk, so a power cut does not restore the old one. It gets the folder's owner:
    the server must be able to read what root writes on the command line.

    Raises:
        OSError: it can't be written.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    _write_draft(draft, content)
    draft.rename(path)
    sync_folder(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Write a new file as :func:`write_private`. Of several callers at once, one creates it.

    Raises:
        FileExistsError: it exists.
        OSError: it can't be written.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        _write_draft(draft, content)
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def create_private_folder(path: Path) -> None:
    """Create a folder of mode 0700. It gets the owner of the folder that it is in.

    Raises:
        FileExistsError: it exists.
        OSError: it can't be created.
    """
    path.mkdir(mode=0o700)
    give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """Give ``path`` to the owner of the folder that it is in: root made it, and the server must be able to use it.

    Raises:
        OSError: it can't be given away.
    """
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _write_draft(draft: Path, content: bytes) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        owner = draft.parent.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of ``folder`` to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    """Check that ``path`` is a regular file or a folder, which fails when it is read.

    Raises:
        SettingsError: it is a pipe, a socket or a device.
    """
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise SettingsError(f"{path} is not a regular file")


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Check that ``path`` belongs to this user or to root. Root may also act for the folder's owner.

    Raises:
        SettingsError: it belongs to another user.
        OSError: it can't be checked.
    """
    user = os.geteuid()
    trusted = {0, user} if user else {0, path.parent.stat().st_uid}
    if status.st_uid not in trusted:
        owner = max(trusted)
        raise SettingsError(
            f"{path} belongs to user {status.st_uid}, who may change it; give it to user {owner}: chown {owner} {path}"
        )


def _by_fs_group(status: os.stat_result) -> str:
    """Return the end of a message: advice if only a group has access."""
    if not status.st_mode & stat.S_IRWXG or status.st_mode & stat.S_IWOTH:
        return ""
    return (
        " (on Kubernetes fsGroup lets a group in at each mount: set fsGroupChangePolicy: OnRootMismatch, and as `data` a folder"
        " below the mount)"
    )
