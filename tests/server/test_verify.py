"""``interlock verify`` on a log that a server wrote: tampering is found and explained."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from interlock.server.surface.sqlite.archive import integrity_check
from interlock.server.surface.sqlite.engine import open_reader
from tests.bench.figure import Bench
from tests.bench.population import Population, write
from tests.support.log import records
from tests.support.tampering import rechain, shell
from tests.support.verifying import SPARE, verify


def test_the_sample_log_has_the_events_that_tampering_relies_on(folder: Path) -> None:
    events = [record["event"] for record in records(folder)]
    assert events[:6] == ["add", "add", "register", "create", "authenticate", "connect"]
    assert sorted(events[6:-SPARE]) in (["disconnect", "refresh", "revoke"], ["refresh", "revoke"])
    assert events[-SPARE:] == ["create"] * SPARE


def test_verify_finds_a_cleanly_stopped_log_signed_to_its_end(folder: Path) -> None:
    outcome = verify(folder)
    assert outcome.exit_code == 0, outcome.output
    total = len(records(folder))
    said = rf"ok: {total} records, every one declared and in its place; signed up to record {total} at 20\d\d-.*Z\n"
    assert re.fullmatch(said, outcome.stdout)


def _flip_a_byte(log: Any) -> None:
    log.execute("UPDATE transitions SET actor = 'B' || substr(actor, 2) WHERE position = 5")


def _delete(log: Any) -> None:
    log.execute("DELETE FROM transitions WHERE position = 7")


def _copy(log: Any, source: int, position: int) -> None:
    """Insert record ``source`` again at ``position``; its ids must not clash with the table's keys."""
    log.execute("CREATE TEMP TABLE copied AS SELECT * FROM transitions WHERE position = ?", (source,))
    log.execute("UPDATE copied SET position = ?", (position,))
    log.execute("CREATE TABLE free AS SELECT * FROM transitions")
    log.execute("INSERT INTO free SELECT * FROM copied")
    log.execute("DROP TABLE transitions")
    log.execute("ALTER TABLE free RENAME TO transitions")


def _repeat(log: Any) -> None:
    log.execute("UPDATE transitions SET position = -position WHERE position > 6")
    log.execute("UPDATE transitions SET position = 2 - position WHERE position < 0")
    _copy(log, 6, 7)


def _repeat_unnumbered(log: Any) -> None:
    _copy(log, 6, 6)


def _swap(log: Any) -> None:
    for before, after in ((5, -1), (6, 5), (-1, 6)):
        log.execute("UPDATE transitions SET position = ? WHERE position = ?", (after, before))


def _illegal(log: Any) -> None:
    """Turn the login into a connect of the anonymous session, and adapt everything after it."""
    log.execute(
        "UPDATE transitions SET event = 'connect', target = 'connected',"
        ' data = \'{"connection_id":"con_1","node":"node-1"}\' WHERE position = 5'
    )
    rechain(log)


def _guarded(log: Any) -> None:
    log.execute(
        "UPDATE transitions SET event = 'expire', target = 'expired', data = '{\"reason\":\"idle\"}' WHERE position = 6"
    )
    rechain(log)


def _another_type(log: Any) -> None:
    """Make a table like the server's, but not STRICT, and a text in place of a number."""
    _copy(log, 0, 0)
    log.execute("UPDATE transitions SET version = 'two' WHERE position = 5")
    rechain(log)


def _legal_but_forged(log: Any) -> None:
    log.execute("UPDATE transitions SET actor = 'mallory' WHERE position = 5")
    rechain(log)


def _projection(log: Any) -> None:
    log.execute("UPDATE instances SET reason = 'idle' WHERE reason = 'logout'")


TAMPERED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a flipped byte": (
        _flip_a_byte,
        (
            r"fault at record 5: digest does not match the record and the one before it: the record was changed, or is not"
            r" the one that was written here"
        ),
    ),
    "a deleted record": (_delete, r"fault at record 8: follows record 6: record 7 is missing"),
    "a repeated record, renumbered": (
        _repeat,
        (
            r"fault at record 7: digest does not match the record and the one before it: version 3 of its session was recorded"
            r" before, so a record was repeated or moved"
        ),
    ),
    "a repeated record": (
        _repeat_unnumbered,
        r"fault at record 6: follows record 6: it is duplicated, or out of order",
    ),
    "swapped records": (
        _swap,
        (
            r"fault at record 5: digest does not match .*: it is version 3 of a session that is at 1, so a record was removed"
            r" or moved"
        ),
    ),
    "an illegal transition, rechained": (
        _illegal,
        (
            r"fault at record 5: refused: connect from created\. The declaration has connect from authenticated and connected"
            r" only\."
        ),
    ),
    "a guard that fails, rechained": (
        _guarded,
        (
            r"fault at record 6: refused: expire from authenticated: guard `not alive` fails: the session lives until 20\S+Z,"
            r" its idle deadline\. `alive`: Now is before the idle deadline and before the absolute deadline\."
        ),
    ),
    "a value of another type": (_another_type, r"fault at record 5: a column holds a value of another type"),
    "a legal step forged and rechained": (
        _legal_but_forged,
        r"fault: record \d+ has another digest than its signed head says: the log was rewritten from there or before",
    ),
    "a projection that differs": (
        _projection,
        r"fault at record \d+: the projection of session \w+ differs from its log",
    ),
}


@pytest.mark.parametrize(("tamper", "words"), TAMPERED.values(), ids=TAMPERED)
def test_verify_finds_and_explains_tampering_with_the_log(
    folder: Path, tamper: Callable[[Any], None], words: str
) -> None:
    with shell(folder) as log:
        tamper(log)
    outcome = verify(folder)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert re.fullmatch(words, outcome.stderr.splitlines()[0]), outcome.stderr


def _page_size(file: bytearray) -> int:
    return int.from_bytes(file[16:18], "big")


def _place(folder: Path, position: int, *, in_index: bool) -> tuple[bytearray, int]:
    """Return the database file, and where the command id of record ``position`` ends, in its index or the record."""
    with closing(open_reader(folder / "interlock.db").conn) as log:
        (command,) = log.execute("SELECT command_id FROM transitions WHERE position = ?", (position,)).fetchone()
        (page,) = log.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_transitions_2'"
        ).fetchone()
    file = bytearray((folder / "interlock.db").read_bytes())
    found = [match.end() - 1 for match in re.finditer(re.escape(command.encode()), file)]
    (place,) = [place for place in found if (place // _page_size(file) == page - 1) == in_index]
    return file, place


def _flip_in_an_index(folder: Path) -> None:
    file, place = _place(folder, 3, in_index=True)
    file[place] ^= 1
    (folder / "interlock.db").write_bytes(file)


def _flip_to_no_text(folder: Path) -> None:
    file, place = _place(folder, 3, in_index=False)
    file[place] = 0xFF
    (folder / "interlock.db").write_bytes(file)


def _projection_to_no_text(folder: Path) -> None:
    with shell(folder) as log:
        log.execute("UPDATE instances SET owner = CAST(x'61ff62' AS TEXT) WHERE reason = 'logout'")


NO_TEXT = r"a column holds a text that is not valid UTF-8"

DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of an index": (
        _flip_in_an_index,
        r"fault: the database file is damaged: row 3 missing from index sqlite_autoindex_transitions_2(, and \d+ more)?",
    ),
    "a byte of a text": (_flip_to_no_text, rf"fault at record 3: {NO_TEXT}"),
    "a byte of the projection": (
        _projection_to_no_text,
        rf"fault at record \d+: the projection of session \w+ can't be read: {NO_TEXT}",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED)
def test_verify_finds_and_explains_damage_of_the_file(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    outcome = verify(folder)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert re.fullmatch(words, outcome.stderr.splitlines()[0]), outcome.stderr


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
def test_a_destroyed_page_is_a_fault_at_its_first_record(tmp_path: Path, *, last: bool) -> None:
    write(Bench(tmp_path, quick=True, say=lambda _text: None), tmp_path, Population(20, 10))
    with closing(open_reader(tmp_path / "interlock.db").conn) as log:
        commands = [each for (each,) in log.execute("SELECT command_id FROM transitions ORDER BY position")]
    file = bytearray((tmp_path / "interlock.db").read_bytes())
    size = _page_size(file)
    # Records precede their index entries in the file, with their data: {"..."} follows the command id.
    pages = [file.index(each.encode() + b"{") // size for each in commands]
    page = pages[-1 if last else 100]
    file[page * size : page * size + 8] = b"\xff" * 8
    (tmp_path / "interlock.db").write_bytes(file)
    outcome = verify(tmp_path, "--receipt", f"{len(commands)}.{'ab' * 32}")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    first, second, *rest = outcome.stderr.splitlines()
    malformed = r"the database file is damaged there \(database disk image is malformed\)"
    assert re.fullmatch(rf"fault at record {pages.index(page) + 1}: {malformed}", first)
    assert second.startswith("fault: the database file is damaged")
    said = (
        r"record 200 can't be compared: the database file is damaged there" if last else "record 200 has another digest"
    )
    assert rest[-1].startswith(f"receipt 200: {said}")


def test_a_log_with_a_binary_schema_is_unreadable(folder: Path) -> None:
    file = folder / "interlock.db"
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE transitions", b"CREATE TAB\xffE transitions"))
    outcome = verify(folder)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith(f"interlock: {folder}/interlock.db ")


def test_interrupting_verify_also_stops_sqlites_check(folder: Path) -> None:
    with integrity_check(folder) as checking:
        assert checking.result() == []
    with pytest.raises(KeyError), integrity_check(folder):
        raise KeyError
