"""``interlock backup``: a complete, checked copy of a data folder, made while the server runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from secrets import token_hex
from typing import Final

import rich_click as click
from rich.console import Console
from rich.markup import escape

from interlock.machine.errors import HeadRefused, SettingsError
from interlock.server.cli.errors import EXIT_FAULT, data_option, errors_as_messages, keys_folder
from interlock.server.cli.options import head_option
from interlock.server.cli.upkeep.folders import (
    KEYS,
    compare_with_head,
    copy_keys,
    copy_with_progress,
    removed_on_failure,
    seal,
)

_INCOMPLETE: Final = ".incomplete-"


@click.command()
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@data_option
@head_option
@click.option("--no-keys", is_flag=True, help="Leave out keys and secrets, to keep them in another place.")
@click.option(
    "--keep-faulty", is_flag=True, help="Keep the copy of a log that is not as the server wrote it, to look at."
)
def backup(target: Path, data: Path, head_file: Path | None, *, no_keys: bool, keep_faulty: bool) -> None:
    """Copy a data folder to the new FOLDER, also while its server runs, and check the copy.

    FOLDER gets the log, a signed head for exactly its records, and keys/ with all keys and secrets. It does not get what lies
    elsewhere: settings, realms, the model trace. Files have mode 0600, folders 0700. Protect it like the original: it holds
    addresses and password hashes, and whoever has the keys can make tokens for every session.

    FOLDER appears when all of it is on disk and has been verified as by `interlock verify`. Until then the copy is called
    FOLDER.incomplete-…; what an interruption leaves of it is of no use. Nothing is ever overwritten.

    Exit status 0: the backup is complete. 1: the log is not as the server wrote it, and there is no backup, except with
    --keep-faulty. 2: there is none for another reason, such as too little space.
    """
    from interlock.server.settings import HEAD_NAME
    from interlock.server.system.permissions import create_private_folder, sync_folder

    with errors_as_messages():
        if target.exists() or target.is_symlink():
            raise SettingsError(f"{target} exists, and a backup overwrites nothing: name a new folder")
        for left in target.parent.glob(f"{target.name}{_INCOMPLETE}*"):
            _say(f"[yellow]{escape(str(left))}[/yellow] is left from a backup that was interrupted: remove it")
        keys_folder(data)
        draft = target.with_name(f"{target.name}{_INCOMPLETE}{token_hex(4)}")
        create_private_folder(draft)
        with removed_on_failure(draft):
            fault, copied = _fill(draft, data, head_file or data / HEAD_NAME, keep_faulty=keep_faulty)
            if fault and not keep_faulty:
                _say("there is no backup; --keep-faulty keeps the copy")
                sys.exit(EXIT_FAULT)
            if no_keys:
                shutil.rmtree(draft / KEYS)
            sync_folder(draft)
            # This replaces nothing: a folder that somebody else has made meanwhile is in the way unless it is empty.
            draft.rename(target)
            sync_folder(target.parent)
    secrets = "without keys and secrets" if no_keys else f"with {copied} files of keys and secrets"
    click.echo(f"backup {target}: the log, its head, {secrets}")
    if fault:
        sys.exit(EXIT_FAULT)


def _fill(draft: Path, data: Path, head_path: Path, *, keep_faulty: bool) -> tuple[bool, int]:
    """Copy everything into ``draft``, and verify it. Return whether the log is faulty, and how many files keys/ has.

    Raises:
        SurfaceFailed, SettingsError, OSError: something can't be read or written.
    """
    from interlock.server.cli.verify import run
    from interlock.server.settings import HEAD_NAME
    from interlock.server.surface.head import read_text, write_text

    fault = False
    # First the head: a running server signs ever more records, and the copy holds all that the head is about.
    text = read_text(head_path)
    copy_with_progress(data, draft)
    # After the log: keys and secrets that were removed meanwhile must not come back.
    copied = copy_keys(data / KEYS, draft / KEYS)
    try:
        # A server that was started meanwhile has replaced a final head.
        compare_with_head(draft, text, data / KEYS, final=read_text(head_path) == text)
        seal(draft, draft / HEAD_NAME)
    except HeadRefused as refused:
        _say(f"[bold red]fault[/bold red]: {escape(f'{head_path}: {refused}')}")
        fault = True
        if text is not None:
            write_text(draft / HEAD_NAME, text)
    if fault and not keep_faulty:
        return fault, len(copied)
    return run(draft, None, (), (), require_head=True, at_least=0) != 0 or fault, len(copied)


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
