"""``interlock restore``: a backup becomes the data folder of a server."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import rich_click as click

from interlock.machine.errors import HeadRefused, SettingsError
from interlock.machine.times import rfc3339
from interlock.server.cli.errors import EXIT_FAULT, data_option, errors_as_messages
from interlock.server.cli.options import head_option
from interlock.server.cli.upkeep.folders import (
    KEYS,
    copy_keys,
    copy_with_progress,
    end_of,
    removed_on_failure,
    seal,
)

_DRAFT: Final = ".restoring"
_ASIDE: Final = ".before-restore"
_MAY_BE_THERE: Final = frozenset({"interlock.lock", "lost+found"})


@click.command()
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=Path, exists=True, file_okay=False))
@data_option
@head_option
@click.option(
    "--at-least",
    type=click.IntRange(min=0),
    default=0,
    metavar="POSITION",
    help="Restore nothing if the backup ends before this position, and say how many records are missing.",
)
@click.option(
    "--receipt", "receipts", metavar="TEXT", multiple=True, help="Restore nothing without this record; repeatable."
)
@click.option(
    "--keep-token-keys",
    is_flag=True,
    help="Accept the tokens of the backup: only if nothing was recorded after it was made, as when a stopped server moves.",
)
def restore(  # each is an option
    source: Path, data: Path, head_file: Path | None, receipts: tuple[str, ...], at_least: int, *, keep_token_keys: bool
) -> None:
    """Make the data folder of a server from BACKUP, a folder that `interlock backup` made.

    The folder must be new or empty, and no server may use it. The copy is verified as by `interlock verify` before it is put in
    place, and its head is signed. All secrets of administrators, clients, subscribers, webhooks and realms are those of the
    backup.

    The keys that tokens are made with are new, unless --keep-token-keys is given, so that everybody has to log in again:
    a session that was ended after the backup is alive in it, and its tokens would be accepted.

    Exit status 0: the folder is complete. 1: the backup is not as the server wrote it, or lacks what it must have; nothing was
    restored. 2: there is another reason, such as a folder in use.
    """
    from interlock.server.settings import HEAD_NAME
    from interlock.server.surface.sqlite.files import LOG_NAME, exclusive_access

    with errors_as_messages(), exclusive_access(data):
        there = sorted(path.name for path in data.iterdir() if path.name not in _MAY_BE_THERE)
        if there:
            raise SettingsError(
                f"{data} is not empty (it has {there[0]}), and restore overwrites nothing: move it away, and keep it"
            )
        draft, head_path = data / _DRAFT, head_file or data / HEAD_NAME
        aside = head_path.with_name(f"{head_path.name}{_ASIDE}")
        if head_path.exists() and aside.exists():
            raise SettingsError(f"{aside} is left from a former restore: move it away")
        with removed_on_failure(draft):
            _fill(draft, source, receipts, at_least, keep_token_keys=keep_token_keys)
            end, latest_ms = end_of(draft)
            lost = _lost(head_path, end.position)
            seal(draft, draft / HEAD_NAME)
            # The log last: until then a server refuses to start, because the head covers records that are not there.
            if head_path.exists():
                head_path.rename(aside)
            _put_head(draft / HEAD_NAME, head_path)
            (draft / KEYS).rename(data / KEYS)
            (draft / LOG_NAME).rename(data / LOG_NAME)
            draft.rmdir()
    click.echo(f"restored to {data}: {end.position} records, the last of {rfc3339(latest_ms)}{lost}")
    tokens = "tokens of the backup are valid" if keep_token_keys else "no older token is valid: everybody logs in again"
    click.echo(f"{tokens}; accounts, groups, passwords and secrets are as they were then")


def _fill(draft: Path, source: Path, receipts: tuple[str, ...], at_least: int, *, keep_token_keys: bool) -> None:
    """Copy the backup into ``draft``, verify it, and replace its keys unless ``keep_token_keys``. Exit with 1 if it is faulty.

    Raises:
        SurfaceFailed, SettingsError, OSError: something can't be read or written.
    """
    from interlock.server.cli.verify import run
    from interlock.server.guard.keys.keyset import key_files, load_keys
    from interlock.server.settings import HEAD_NAME
    from interlock.server.surface.head import read_text, write_text
    from interlock.server.system.permissions import create_private_folder

    _refuse_links(source)
    create_private_folder(draft)
    copy_with_progress(source, draft)
    copied = copy_keys(source / KEYS, draft / KEYS)
    text = read_text(source / HEAD_NAME)
    if text is not None:
        write_text(draft / HEAD_NAME, text)
    has_keys = bool(key_files(draft / KEYS))
    if run(draft, None, receipts, sys.stdin, require_head=has_keys, at_least=at_least):
        click.echo("nothing was restored", err=True)
        sys.exit(EXIT_FAULT)
    if keep_token_keys and not has_keys:
        raise SettingsError(
            f"{source} has no keys ({len(copied)} other files): leave out --keep-token-keys, or put them there"
        )
    if not keep_token_keys:
        for path in key_files(draft / KEYS):
            path.unlink()
        load_keys(draft / KEYS)


def _refuse_links(source: Path) -> None:
    """Refuse symbolic links in the backup. It is made without any, and one could lead to another file that only root may read.

    Raises:
        SettingsError: there is one.
    """
    keys = source / KEYS
    inside = sorted(keys.iterdir()) if keys.is_dir() and not keys.is_symlink() else []
    for path in (*sorted(source.iterdir()), *inside):
        if path.is_symlink():
            raise SettingsError(f"{path} is a link, and a backup has none: put the file there that it leads to")


def _put_head(draft: Path, head_path: Path) -> None:
    from interlock.server.surface.head import read_text, write_text

    text = read_text(draft)
    assert text is not None  # noqa: S101  # it was written a moment ago
    write_text(head_path, text)
    draft.unlink()


def _lost(head_path: Path, end: int) -> str:
    """Return how many records the head at ``head_path``, of the log before, has more than the backup, in words."""
    from interlock.server.guard.keys.heads import read_head
    from interlock.server.surface.head import read_text

    with suppress(HeadRefused):
        text = read_text(head_path)
        position = read_head(text).position if text is not None else 0
        if position > end:
            return f"; {head_path} said {position}: the last {position - end} records are lost"
    return ""
