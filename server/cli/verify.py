"""``interlock verify``: checks that the log is as written, ends where its head says, and holds what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from interlock.machine.errors import (
    FileDamaged,
    HeadRefused,
    LedgerFault,
    ReceiptMalformed,
    SettingsError,
    SurfaceFailed,
)
from interlock.machine.explain import beyond_head, broken_head, broken_receipt, short_of
from interlock.machine.ledger import Receipt
from interlock.machine.times import rfc3339
from interlock.server.cli.errors import EXIT_FAULT
from interlock.server.guard.keys.heads import check_head, read_head
from interlock.server.guard.keys.keyset import load_public_keys
from interlock.server.settings import HEAD_NAME
from interlock.server.surface.head import read_text
from interlock.server.surface.sqlite.archive import Archive, integrity_check, open_archive

_WAITING: Final = "records read; waiting for SQLite's check of the file and its indexes"
_IN_MAIN: Final = "*** in database main ***\n"
_PLACE: Final = "every one declared and in its place"


class _Signed(msgspec.Struct, frozen=True):
    """The log's head. ``receipt``: its record, if there is one to compare; ``note``: a description in any case.

    ``checked``: a key beside the log verified its signature. ``final``: it says that the server stopped there.
    """

    receipt: Receipt | None
    note: str
    checked: bool = False
    final: bool = False


def run(
    place: Path,
    given_head: Path | None,
    receipts: Iterable[str],
    stdin: Iterable[str],
    *,
    require_head: bool,
    at_least: int,
) -> int:
    """Check the log at ``place``, print the findings, and return the exit status.

    ``given_head``: path of the head, if not beside the log. ``receipts``: to look up in the log, ``-`` for those on
    ``stdin``. ``require_head``: a missing head or unchecked signature is a fault. ``at_least``: so is an end before this
    position.

    Raises:
        ReceiptMalformed, SurfaceFailed: an input can't be read.
    """
    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    wanted = list(_wanted(receipts, stdin))
    faults = []
    folder = place if place.is_dir() else place.parent
    # Before the log: a running server grows both, and the head never names more than the log holds.
    try:
        signed = _signed(folder, given_head, required=require_head)
        if require_head and not signed.checked:
            faults.append(
                f"[bold red]fault[/bold red]: a head with a checked signature is required: {escape(signed.note)}"
            )
    except HeadRefused as refused:
        signed = _Signed(None, "")
        faults.append(f"[bold red]fault[/bold red]: {escape(str(refused))}")
    with open_archive(place) as archive, integrity_check(place) as checking:
        fault, damage = _first_fault(archive, checking, err)
        found = [f"[bold red]fault[/bold red] at {escape(str(fault))}"] if fault else []
        found += [f"[bold red]fault[/bold red]: {escape(_damaged(damage))}"] if damage else []
        faults[:0] = found
        broken, unsigned = _ends(archive, signed, folder, given_head, at_least)
        faults += [f"[bold red]fault[/bold red]: {escape(each)}" for each in broken]
        for receipt in wanted:
            unshown = _broken(archive, receipt, fault)
            if unshown:
                faults.append(f"[bold red]receipt[/bold red] {receipt.position}: {escape(unshown)}")
            else:
                out.print(_held(archive, receipt), soft_wrap=True)
        total = 0 if faults else archive.record_count()
    for line in faults:
        err.print(line, soft_wrap=True)
    if faults:
        return EXIT_FAULT
    out.print(f"[green]ok[/green]: {total} records, {_PLACE}; {escape(signed.note)}{unsigned}", soft_wrap=True)
    return 0


def _ends(
    archive: Archive, signed: _Signed, folder: Path, given_head: Path | None, at_least: int
) -> tuple[list[str], str]:
    """Return faults at the end of the log, and a note about records beyond the head."""
    try:
        end = archive.record_count()
    except FileDamaged as damaged:
        return [f"the end of the log can't be compared with its head: {damaged}"], ""
    short = short_of(at_least, end)
    faults = [short] if short else []
    if signed.receipt is None:
        return faults, ""
    broken = _compared(archive, signed.receipt, broken_head)
    # A running server's log may have grown beyond the head read before it, so this head is read after the log.
    with suppress(HeadRefused, SurfaceFailed):
        newer = _signed(folder, given_head, required=False)
        signed = newer if newer.receipt is not None else signed
    assert signed.receipt is not None  # noqa: S101  # see above
    position = signed.receipt.position
    broken = broken or beyond_head(position, end, final=signed.final)
    faults += [broken] if broken else []
    more = end - position
    return faults, f"; {more} more {'are' if more > 1 else 'is'} in its lag, as after a crash" if more > 0 else ""


def _first_fault(
    archive: Archive, checking: Future[list[str]], console: Console
) -> tuple[LedgerFault | None, list[str]]:
    """Return the first fault in the records, and the problems that SQLite finds in the file."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeRemainingColumn(), TimeElapsedColumn())
    fault = None
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=_count_for_show(archive))
        try:
            for position in archive.verify():
                progress.update(task, completed=position)
        except LedgerFault as found:
            fault = found
        progress.update(task, description=_WAITING)
        return fault, checking.result()


def _count_for_show(archive: Archive) -> int | None:
    try:
        return archive.record_count()
    except FileDamaged:
        return None


def _damaged(found: list[str]) -> str:
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    # SQLite first names the database of a damaged page, on its own line.
    return f"the database file is damaged: {found[0].removeprefix(_IN_MAIN).splitlines()[0]}{more}"


def _signed(folder: Path, given: Path | None, *, required: bool) -> _Signed:
    """Return the head of the log in ``folder``, verified if possible.

    Raises:
        HeadRefused: it is malformed, or not signed by the keys beside the log.
        SurfaceFailed: the given path has none, and none is ``required``.
    """
    path = given or folder / HEAD_NAME
    try:
        text = read_text(path)
        if text is None:
            if required:
                return _Signed(None, f"there is none at {path}")
            if given is not None:
                raise SurfaceFailed(f"no head at {path}")
            return _Signed(None, "no signed head says where it ends")
        try:
            public = load_public_keys(folder / "keys")
            unchecked = "" if public else f"there are no keys in {folder / 'keys'}"
        except SettingsError as error:
            unchecked = str(error)
        if unchecked:
            head = read_head(text)
            note = f"its head says record {head.position}, and the signature was not checked: {unchecked}"
            return _Signed(head.receipt, note, final=head.final)
        head = check_head(text, public)
    except HeadRefused as refused:
        raise HeadRefused(f"{path}: {refused}") from None
    return _Signed(
        head.receipt,
        f"signed up to record {head.position} at {rfc3339(head.iat * 1000)}",
        checked=True,
        final=head.final,
    )


def _wanted(texts: Iterable[str], stdin: Iterable[str]) -> Iterator[Receipt]:
    """Yield the receipts from the command line, and from standard input if requested.

    Raises:
        ReceiptMalformed: one is malformed.
    """
    for text in texts:
        if text != "-":
            yield Receipt.parse(text)
            continue
        for number, line in enumerate(stdin, 1):
            try:
                if line.strip():
                    yield _from_line(line.strip())
            except ReceiptMalformed as error:
                raise ReceiptMalformed(f"standard input, line {number}: {error}") from None


def _from_line(line: str) -> Receipt:
    if not line.startswith("{"):
        return Receipt.parse(line)
    try:
        return Receipt.parse(str(msgspec.json.decode(line, type=Receipt)))
    except msgspec.MsgspecError as error:
        raise ReceiptMalformed(f"not a JSON object with position and digest: {error}") from None


def _compared(
    archive: Archive, receipt: Receipt, explain: Callable[[Receipt, Receipt | None, int], str | None]
) -> str | None:
    """Return what ``explain`` says of ``receipt`` and the log's record there, or that they can't be compared."""
    try:
        return explain(receipt, archive.receipt_at(receipt.position), archive.record_count())
    except FileDamaged as damaged:
        return f"record {receipt.position} can't be compared: {damaged}"


def _broken(archive: Archive, receipt: Receipt, fault: LedgerFault | None) -> str | None:
    """Return why ``receipt`` is not shown, or None."""
    broken = _compared(archive, receipt, broken_receipt)
    if broken is None and fault is not None and receipt.position >= fault.position:
        return f"not shown: the log is not what was written from record {fault.position} on"
    return broken


def _held(archive: Archive, receipt: Receipt) -> str:
    row = archive.row_at(receipt.position)
    what = f"{row.event} of {row.kind} {row.instance_id}" if row else ""
    return f"receipt {receipt.position}: the log holds it ({escape(what)})"
