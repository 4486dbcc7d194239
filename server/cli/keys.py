"""``interlock keys``: rotate and retire the keys that sign tokens, even beside a running server."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rich_click as click
from rich.console import Console
from rich.table import Column, Table

from interlock.machine.errors import HeadRefused, KeyInUse, SurfaceLocked
from interlock.machine.times import rfc3339
from interlock.server.cli.errors import data_option, errors_as_messages, json_option, keys_folder, print_listed
from interlock.server.cli.options import head_option

if TYPE_CHECKING:
    from interlock.server.clock import Clock
    from interlock.server.guard.keys.keyset import Key

_HEAD_WAIT_S: Final = 10.0
_PIPE_WIDTH: Final = 160
_STATUS: Final = {
    "waits": "published, signs later",
    "signs": "[green]signs[/green]",
    "verifies": "verifies",
    "done": "may be retired",
}


@click.group()
def keys() -> None:
    """The keys that sign access tokens and the log's head, and the MAC keys of refresh tokens.

    A running server notices changes within a second. As in the server, the time is never earlier than the newest record
    of the log.
    """


@keys.command("list")
@data_option
@json_option
def list_keys(data: Path, *, as_json: bool) -> None:
    """List every key: its purpose, its status, and when it may be retired."""
    from interlock.server.guard.keys.rotation import rows

    with errors_as_messages():
        found = rows(keys_folder(data), _clock(data).now_ms())
        if as_json:
            columns = ("key", "purpose", "status", "signs from", "may be retired from")
            times = [[at and rfc3339(at) for at in (row.signs_from_ms or None, row.retire_from_ms)] for row in found]
            cells = [(row.name, row.kind, row.status, *at) for row, at in zip(found, times, strict=True)]
            print_listed(columns, cells, as_json=True)
            return
        table = Table(Column("key", no_wrap=True), "purpose", "status", "signs from", "may be retired from")
        for row in found:
            until = "" if row.retire_from_ms is None else rfc3339(row.retire_from_ms)
            begin = rfc3339(row.signs_from_ms) if row.signs_from_ms else ""
            table.add_row(row.name, row.kind, _STATUS[row.status], begin, until)
        # Names are copied from here, so they are never truncated, not even in a pipe.
        Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@keys.command()
@data_option
@click.option("--refresh", is_flag=True, help="Rotate the MAC key of refresh tokens instead of the signing key.")
@click.option(
    "--now", is_flag=True, help="Sign with it at once. Services that cached the public keys may not know it yet."
)
def rotate(data: Path, *, refresh: bool, now: bool) -> None:
    """Create the next key.

    The key is published at once and signs ten minutes later, when services that cache the public keys (five minutes)
    have fetched it. The older one still verifies until it is retired.
    """
    from interlock.server.guard.keys.rotation import rotate as make

    with errors_as_messages():
        clock = _clock(data)
        key = make(data / "keys", clock.now_ms(), refresh=refresh, at_once=now)
        signs = "now" if key.signs_from_ms <= clock.now_ms() else f"from {rfc3339(key.signs_from_ms)}"
        Console(highlight=False).print(
            f"[bold]{key.name}[/bold] signs {signs}. `interlock keys list` says when the older one may be retired.",
            soft_wrap=True,
        )


@keys.command()
@click.argument("kid", metavar="KEY")
@data_option
@head_option
@click.option("--force", is_flag=True, help="Retire it although its tokens may be valid: it is compromised.")
def retire(kid: str, data: Path, head_file: Path | None, *, force: bool) -> None:
    """Remove KEY. Everything signed with it becomes invalid.

    Refused while its tokens may be valid. With --force they are refused within a second, and a running server closes all
    sockets: clients refresh and reconnect.
    """
    from interlock.server.guard.keys import rotation
    from interlock.server.settings import HEAD_NAME

    with errors_as_messages():
        folder, now_ms = keys_folder(data), _clock(data).now_ms()
        key = rotation.find(folder, kid)
        rotation.check_retirement(folder, key, now_ms, force=force)
        _free_head(data, head_file or data / HEAD_NAME, key, now_ms, force=force)
        rotation.remove(folder, key)
        Console(highlight=False).print(f"[bold]{key.name}[/bold] is removed.")


def _clock(data: Path) -> Clock:
    """Return the server's clock: which key signs, and which may be retired, must be the same here and there.

    Raises:
        SurfaceFailed: there is a log, and it can't be read.
    """
    from interlock.server.clock import SystemClock
    from interlock.server.surface.sqlite.archive import open_archive
    from interlock.server.surface.sqlite.files import LOG_NAME

    if not (data / LOG_NAME).exists():
        return SystemClock()
    with open_archive(data) as archive:
        return SystemClock(floor_ms=archive.latest_at_ms())


def _free_head(data: Path, path: Path, key: Key, now_ms: int, *, force: bool) -> None:
    """Have the log's head signed by another key than ``key``, or the next start would refuse it.

    Raises:
        KeyInUse: the running server has not signed it again, and ``force`` is not given.
    """
    from interlock.server.guard.keys.heads import check_head, sign_head
    from interlock.server.guard.keys.keyset import load_keys, load_public_keys
    from interlock.server.surface.head import write_text
    from interlock.server.surface.sqlite.files import exclusive_access

    text = _signed_by(path, key)
    if text is None:
        return
    try:
        with exclusive_access(data):
            head = check_head(text, load_public_keys(data / "keys"))
            signing = load_keys(data / "keys", now_ms).signing
            write_text(path, sign_head(head.receipt, signing, now_ms, final=head.final))
    except HeadRefused:
        # A head with a wrong signature is refused with or without the key.
        return
    except SurfaceLocked:
        # A running server signs the head when it notices the new key.
        deadline = time.monotonic() + _HEAD_WAIT_S
        while _signed_by(path, key) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if _signed_by(path, key) is not None and not force:
            raise KeyInUse(
                f"{path} is signed by {key.name}, and the running server has not signed it with another key"
            ) from None


def _signed_by(path: Path, key: Key) -> str | None:
    """Return the head at ``path`` if it names ``key`` as its signer."""
    from interlock.server.guard.keys.heads import signer_of
    from interlock.server.surface.head import read_text

    try:
        text = read_text(path)
        return text if text is not None and signer_of(text) == key.name else None
    except HeadRefused:
        return None
