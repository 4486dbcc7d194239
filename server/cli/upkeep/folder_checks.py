"""Checks of a data folder, by the functions that check it at a start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from interlock.machine.errors import HeadRefused
from interlock.machine.times import rfc3339
from interlock.server.cli.upkeep.findings import Findings
from interlock.server.settings import Settings

if TYPE_CHECKING:
    from interlock.server.surface.sqlite.archive import Archive

_NO_START: Final = "a server does not start on it"
_VERIFY: Final = "leave the folder unchanged, and run `interlock verify` on a copy"
_MIB: Final = 1 << 20


def check_folder(found: Findings, settings: Settings) -> int | None:
    """Check the data folder, its log, head and keys. Return the process id of the server that uses it, or None."""
    from interlock.server.surface.sqlite.files import LOG_NAME, refuse_written_by_others, server_of

    data = Path(settings.data)
    if not data.is_dir():
        found.warning(
            f"there is no folder {data.absolute()}",
            "the next start would begin a new, empty log",
            "or name it with --data",
        )
        return None
    with found.errors(_NO_START):
        refuse_written_by_others(data)
    running = None
    try:
        running = server_of(data)
        found.ok("no server runs on this folder" if running is None else f"a server runs on it: process {running}")
    except (OSError, ValueError) as error:
        found.error(f"the folder's lock can't be read: {error}", "it keeps a second server out", "run this as its user")
    _check_space(found, data, settings)
    check_keys(found, data / "keys")
    if not (data / LOG_NAME).exists():
        found.warning(f"there is no log in {data.absolute()}", "no server has run there yet, or it was moved away")
    else:
        with found.errors("the log can't be used", _VERIFY):
            _check_log(found, data, settings)
    if (left := data / ".restoring").exists():
        found.error(
            f"{left} is left", "a restore was interrupted: the folder is not complete", "empty it, and restore again"
        )
    return running


def _check_space(found: Findings, data: Path, settings: Settings) -> None:
    with found.errors("the space on the disk is unknown"):
        space = os.statvfs(data)
        free, reserve = space.f_bavail * space.f_frsize // _MIB, settings.disk_reserve_mib
        if free < reserve:
            found.warning(
                f"the disk has {free} MiB free, less than disk_reserve_mib ({reserve})",
                "the server records only ends, lost rights and new secrets until there is more",
                "make room, or move the folder to a larger disk",
            )
        elif not space.f_favail and space.f_files:
            found.warning("the disk has no free inode", "no file can be created: neither head nor keys", "remove files")
        else:
            found.ok(f"the disk has {free} MiB free; the reserve is {reserve}")


def check_keys(found: Findings, folder: Path) -> None:
    """Check the keys and their folder."""
    from interlock.server.guard.keys.keyset import SigningKey, of_kind, read_keys
    from interlock.server.guard.secrets import Secrets
    from interlock.server.system.permissions import refuse_open

    if not folder.exists():
        found.warning(
            f"there are no keys in {folder.absolute()}", "the next start makes new ones: older tokens are void then"
        )
        return
    with found.errors(_NO_START):
        refuse_open(folder)
        keys = read_keys(folder)
        signing = len(of_kind(keys, SigningKey))
        found.ok(f"{signing} signing keys, {len(keys) - signing} keys of refresh tokens")
        if not Secrets(folder, "admin").names():
            found.warning(
                "there is no administrator's secret",
                "nobody can disable an account",
                "interlock admin-token create NAME",
            )


def _check_log(found: Findings, data: Path, settings: Settings) -> None:
    from interlock.server.clock import SystemClock
    from interlock.server.opened_storage import is_behind
    from interlock.server.surface.head import check_length
    from interlock.server.surface.sqlite.archive import open_archive

    check_length(data, settings.at_least)
    with open_archive(data) as archive:
        count, latest_ms, now_ms = archive.record_count(), archive.latest_at_ms(), SystemClock().now_ms()
        with found.errors("webhooks can't be used"):
            _check_webhooks(found, data, archive)
    if is_behind(latest_ms, now_ms, settings):
        found.warning(
            f"the newest record is of {rfc3339(latest_ms)}, and the clock says {rfc3339(now_ms)}",
            "the server goes on from the newest record until the clock has caught up",
            "set the clock right",
        )
    if not settings.new_head:
        with found.errors(_NO_START, _VERIFY):
            _check_head(found, data, settings, count)


def _check_head(found: Findings, data: Path, settings: Settings, count: int) -> None:
    """Compare the log with its head.

    Raises:
        HeadRefused: they do not match.
    """
    from interlock.server.guard.keys.heads import check_head
    from interlock.server.guard.keys.keyset import load_public_keys
    from interlock.server.surface.head import check_log, read_text

    text = read_text(settings.head_path)
    if text is None:
        if count:
            raise HeadRefused(f"{settings.head_path}: there is none, and the log holds {count} records")
        return
    try:
        head = check_head(text, load_public_keys(data / "keys"))
        more = check_log(data, head.receipt, final=head.final)
    except HeadRefused as refused:
        raise HeadRefused(f"{settings.head_path}: {refused}") from None
    signed = f"signed up to record {head.position} at {rfc3339(head.iat * 1000)}"
    found.ok(f"the log holds {head.position + more} records, {signed}; --verify reads them")


def _check_webhooks(found: Findings, data: Path, archive: Archive) -> None:
    from interlock.server.cli.credentials.webhooks import why_disabled
    from interlock.server.guard.webhook_files import WebhookFiles

    if not (data / "keys").is_dir():
        return
    states = archive.webhook_states()
    for name, webhook in WebhookFiles(data / "keys").names().items():
        state, _, _, dead = states.get(name, (None, None, 0, 0))
        if why := why_disabled(webhook, state):
            found.warning(
                f"webhook {name} is disabled: {why}", "nothing is sent to it", f"interlock webhooks enable {name}"
            )
        if dead:
            found.warning(
                f"webhook {name} has {dead} dead letters",
                "its receiver does not know of these events",
                f"interlock webhooks replay {name}",
            )
