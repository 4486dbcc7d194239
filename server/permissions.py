"""Whose a file is and who else may touch it: what others may write, others may exchange."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from machine.errors import SettingsError


def refuse_foreign(path: Path, status: os.stat_result) -> None:
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


def refuse_writable(path: Path) -> None:
    """Check that nobody but its owner may write to ``path``, a folder or a file, and that it is not somebody else's.

    Raises:
        SettingsError: others may, or it is.
        OSError: there is no telling.
    """
    status = path.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{path} may be written by others; forbid it: chmod go-w {path}{by_fs_group(status)}")
    if os.geteuid() or not stat.S_ISDIR(status.st_mode):
        # At the command line root acts for whoever the folder belongs to.
        refuse_foreign(path, status)


def by_fs_group(status: os.stat_result) -> str:
    """What else to do where a group was let in, and nobody else: the end of a message."""
    if not status.st_mode & stat.S_IRWXG or status.st_mode & stat.S_IWOTH:
        return ""
    return (
        " (on Kubernetes fsGroup lets a group in at each mount: set fsGroupChangePolicy: OnRootMismatch, and as `data` a folder"
        " below the mount)"
    )
