"""``interlock verify`` over a log that a server wrote: what was done to it is found, and said in words."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from server.cli import main
from server.surface.archive import integrity_check
from server.surface.engine import open_reader
from tests.bench.figure import Bench
from tests.bench.population import Population, write
from tests.support.client import hello, logged_in
from tests.support.log import records
from tests.support.server import ServerProcess, running_server
from tests.support.tampering import cut, rechain, shell

SPARE = 3
"""Anonymous sessions of one record each, at the end of the log."""


async def _live(server: ServerProcess) -> list[dict[str, Any]]:
    """One session's life, from login to logout, and a few that only begin; the receipts of what was acknowledged."""
    receipts = []
    async with await logged_in(server.url) as client:
        receipts.append(client.tokens["receipt"])
        async with client.connect() as socket:
            receipts.append((await hello(socket))["receipt"])
            receipts.append((await client.refresh()).json()["receipt"])
        await client.request("POST", "/api/auth/logout")
        receipts += [(await client.sibling().begin()).json()["receipt"] for _ in range(SPARE)]
    return receipts


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A data folder that a server wrote and left cleanly, and the receipts it gave."""
    data = tmp_path_factory.mktemp("verify") / "data"
    with running_server(data) as server:
        receipts = asyncio.run(_live(server))
    return data, receipts


@pytest.fixture
def folder(written: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> Path:
    """A copy, to tamper with."""
    shutil.copytree(written[0], tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def receipts(written: tuple[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return written[1]


def verify(*arguments: object, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(
        main,
        ["verify", *map(str, arguments)],
        input=stdin,
        env={"INTERLOCK_DATA": None, "INTERLOCK_HEAD": None, **environment},
    )


def text(receipt: dict[str, Any]) -> str:
    return f"{receipt['position']}.{receipt['digest']}"


def test_the_events_of_the_log_are_those_the_tampering_is_about(folder: Path) -> None:
    events = [record["event"] for record in records(folder)]
    assert events[:3] == ["create", "authenticate", "connect"]
    assert sorted(events[3:-SPARE]) in (["disconnect", "refresh", "revoke"], ["refresh", "revoke"])
    assert events[-SPARE:] == ["create"] * SPARE


def test_a_log_that_was_stopped_cleanly_is_signed_to_its_end(folder: Path) -> None:
    outcome = verify(folder)
    assert outcome.exit_code == 0, outcome.output
    total = len(records(folder))
    said = rf"ok: {total} records, every one declared and in its place; signed up to record {total} at 20\d\d-.*Z\n"
    assert re.fullmatch(said, outcome.stdout)


def _flip_a_byte(log: Any) -> None:
    log.execute("UPDATE transitions SET actor = 'B' || substr(actor, 2) WHERE position = 2")


def _delete(log: Any) -> None:
    log.execute("DELETE FROM transitions WHERE position = 4")


def _copy(log: Any, source: int, position: int) -> None:
    """Put record ``source`` in at ``position`` once more; its ids must not clash with the table's keys."""
    log.execute("CREATE TEMP TABLE copied AS SELECT * FROM transitions WHERE position = ?", (source,))
    log.execute("UPDATE copied SET position = ?", (position,))
    log.execute("CREATE TABLE free AS SELECT * FROM transitions")
    log.execute("INSERT INTO free SELECT * FROM copied")
    log.execute("DROP TABLE transitions")
    log.execute("ALTER TABLE free RENAME TO transitions")


def _repeat(log: Any) -> None:
    log.execute("UPDATE transitions SET position = -position WHERE position > 3")
    log.execute("UPDATE transitions SET position = 1 - position WHERE position < 0")
    _copy(log, 3, 4)


def _repeat_unnumbered(log: Any) -> None:
    _copy(log, 3, 3)


def _swap(log: Any) -> None:
    for before, after in ((2, -1), (3, 2), (-1, 3)):
        log.execute("UPDATE transitions SET position = ? WHERE position = ?", (after, before))


def _illegal(log: Any) -> None:
    """The login becomes a connect of the anonymous session, and everything after is made to go with it."""
    log.execute(
        "UPDATE transitions SET event = 'connect', target = 'connected',"
        ' data = \'{"connection_id":"con_1","node":"node-1"}\' WHERE position = 2'
    )
    rechain(log)


def _guarded(log: Any) -> None:
    log.execute(
        "UPDATE transitions SET event = 'expire', target = 'expired', data = '{\"reason\":\"idle\"}' WHERE position = 3"
    )
    rechain(log)


def _another_type(log: Any) -> None:
    """A table like the server's, but not STRICT, and a text where a number belongs."""
    _copy(log, 0, 0)
    log.execute("UPDATE transitions SET version = 'two' WHERE position = 2")
    rechain(log)


def _legal_but_forged(log: Any) -> None:
    log.execute("UPDATE transitions SET actor = 'mallory' WHERE position = 2")
    rechain(log)


def _projection(log: Any) -> None:
    log.execute("UPDATE sessions SET reason = 'idle' WHERE reason = 'logout'")


TAMPERED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a flipped byte": (
        _flip_a_byte,
        (
            r"fault at record 2: digest does not match the record and the one before it: the record was changed, or is not"
            r" the one that was written here"
        ),
    ),
    "a deleted record": (_delete, r"fault at record 5: follows record 3: record 4 is missing"),
    "a repeated record, renumbered": (
        _repeat,
        (
            r"fault at record 4: digest does not match the record and the one before it: version 3 of its session was recorded"
            r" before, so a record was repeated or moved"
        ),
    ),
    "a repeated record": (
        _repeat_unnumbered,
        r"fault at record 3: follows record 3: it is there twice, or out of order",
    ),
    "swapped records": (
        _swap,
        (
            r"fault at record 2: digest does not match .*: it is version 3 of a session that is at 1, so a record was removed"
            r" or moved"
        ),
    ),
    "an illegal transition, rechained": (
        _illegal,
        (
            r"fault at record 2: refused: connect from created\. The declaration has connect from authenticated and connected"
            r" only\."
        ),
    ),
    "a guard that fails, rechained": (
        _guarded,
        (
            r"fault at record 3: refused: expire from authenticated: guard `not alive` fails: the session lives until 20\S+Z,"
            r" its idle deadline\. `alive`: Now is before the idle deadline and before the absolute deadline\."
        ),
    ),
    "a value of another type": (_another_type, r"fault at record 2: a column holds a value of another type"),
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
def test_what_was_done_to_the_log_is_found_and_explained(
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
    """The database file, and where the command id of the record at ``position`` ends: in its unique index, or in the record."""
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
        log.execute("UPDATE sessions SET subject = CAST(x'61ff62' AS TEXT) WHERE reason = 'logout'")


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
def test_what_became_of_the_file_is_found_and_explained(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    outcome = verify(folder)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert re.fullmatch(words, outcome.stderr.splitlines()[0]), outcome.stderr


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
def test_a_page_that_is_no_page_is_a_fault_at_its_first_record(tmp_path: Path, *, last: bool) -> None:
    write(Bench(tmp_path, quick=True, say=lambda _text: None), tmp_path, Population(20, 10))
    with closing(open_reader(tmp_path / "interlock.db").conn) as log:
        commands = [each for (each,) in log.execute("SELECT command_id FROM transitions ORDER BY position")]
    file = bytearray((tmp_path / "interlock.db").read_bytes())
    size = _page_size(file)
    # Records are written before their index entries are, and lie with their data: {"..."} follows the command id.
    pages = [re.search(re.escape(each.encode()) + rb"\{", file).start() // size for each in commands]  # type: ignore[union-attr]
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


def test_a_schema_that_is_no_text_can_not_be_read(folder: Path) -> None:
    file = folder / "interlock.db"
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE transitions", b"CREATE TAB\xffE transitions"))
    outcome = verify(folder)
    assert outcome.exit_code == 2
    assert outcome.stderr == f"interlock: {folder}/interlock.db can't be read: malformed database schema\n"


def test_a_check_that_takes_longer_than_the_records_is_broken_off_with_the_command(folder: Path) -> None:
    with integrity_check(folder) as checking:
        assert checking.result() == []
    with pytest.raises(KeyError), integrity_check(folder):
        raise KeyError


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        ("head", (), r"there is none at {folder}/interlock\.head"),
        ("head", ("--head", "{folder}/nowhere"), r"there is none at {folder}/nowhere"),
        (
            "keys",
            (),
            r"its head says record \d+, and the signature was not checked: there are no keys in {folder}/keys",
        ),
    ],
)
def test_a_head_may_be_required(folder: Path, spoil: str, arguments: tuple[str, ...], words: str) -> None:
    assert verify(folder, "--require-head").exit_code == 0
    if spoil == "head":
        cut(folder, len(records(folder)) - 1)
        (folder / "interlock.head").unlink()
    else:
        shutil.rmtree(folder / "keys")
    outcome = verify(folder, "--require-head", *(each.format(folder=folder) for each in arguments))
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    said = "fault: a head with a checked signature is required: " + words.format(folder=re.escape(str(folder)))
    assert re.fullmatch(said + "\n", outcome.stderr), outcome.stderr


@pytest.mark.parametrize(
    ("gone", "words"), [(1, "the last record was removed"), (2, "the last 2 records were removed")]
)
def test_a_tail_that_was_cut_off_cleanly_is_missed_by_the_head(folder: Path, gone: int, words: str) -> None:
    total = len(records(folder))
    cut(folder, total - gone)
    outcome = verify(folder)
    assert outcome.exit_code == 1
    assert outcome.stderr == f"fault: the log ends at record {total - gone}; its signed head says {total}: {words}\n"


def test_without_its_head_the_shorter_log_passes_and_that_is_said(folder: Path) -> None:
    cut(folder, len(records(folder)) - 1)
    (folder / "interlock.head").unlink()
    outcome = verify(folder)
    assert outcome.exit_code == 0
    assert outcome.stdout.endswith("; no signed head says where it ends\n")


def test_without_keys_the_head_is_compared_and_its_signature_is_not_checked(folder: Path) -> None:
    shutil.rmtree(folder / "keys")
    total = len(records(folder))
    outcome = verify(folder)
    assert outcome.exit_code == 0
    assert outcome.stdout.endswith(
        f"; its head says record {total}, and the signature was not checked: there are no keys in {folder}/keys\n"
    )
    cut(folder, total - 1)
    assert verify(folder).exit_code == 1


def test_keys_that_are_not_private_are_not_used(folder: Path) -> None:
    (key,) = (folder / "keys").glob("signing-*.pem")
    key.chmod(0o644)
    assert "the signature was not checked" in verify(folder).stdout


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda head: head.write_text("garbage"), "it is no signed head"),
        (lambda head: head.write_bytes(b"\xff\xfe"), "it is no signed head"),
        (lambda head: head.write_text(""), "it is no signed head"),
        (lambda head: (head.unlink(), head.mkdir()), "it can't be read: Is a directory"),
        (
            lambda head: head.write_text(head.read_text().rpartition(".")[0] + "." + "A" * 86),
            "its signature is wrong",
        ),
    ],
)
def test_a_head_that_is_not_good_is_a_fault(folder: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(folder / "interlock.head")
    outcome = verify(folder)
    assert (outcome.exit_code, outcome.stderr) == (1, f"fault: {folder}/interlock.head: {words}\n")


def test_a_head_that_lies_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = (folder / "interlock.head").rename(tmp_path / "the.head")
    for outcome in (
        verify(folder, "--head", elsewhere),
        verify(INTERLOCK_DATA=str(folder), INTERLOCK_HEAD=str(elsewhere)),
        verify(folder / "interlock.db", "--head", elsewhere),
    ):
        assert "; signed up to record" in outcome.stdout
    assert "no signed head" in verify(folder, INTERLOCK_HEAD=str(elsewhere)).stdout, "that is the server's own log's"
    missing = verify(folder, "--head", tmp_path / "nowhere")
    assert (missing.exit_code, missing.stderr) == (2, f"interlock: no head at {tmp_path}/nowhere\n")


def test_every_receipt_is_shown(folder: Path, receipts: list[dict[str, Any]]) -> None:
    outcome = verify(folder, *(part for receipt in receipts for part in ("--receipt", text(receipt))))
    assert outcome.exit_code == 0, outcome.output
    by_position = {record["position"]: record for record in records(folder)}
    shown = [by_position[receipt["position"]] for receipt in receipts]
    assert outcome.stdout.splitlines()[:-1] == [
        f"receipt {record['position']}: the log holds it ({record['event']} of session {record['session_id']})"
        for record in shown
    ]


def test_receipts_from_standard_input_as_text_or_json(folder: Path, receipts: list[dict[str, Any]]) -> None:
    lines = [text(receipts[0]), "", json.dumps(receipts[1]), json.dumps(records(folder)[0])]
    outcome = verify(folder, "--receipt", "-", stdin="\n".join(lines) + "\n")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.count("the log holds it") == 3


def test_receipts_that_the_log_does_not_hold(folder: Path, receipts: list[dict[str, Any]]) -> None:
    total = len(records(folder))
    cut(folder, total - 1)
    wrong = {**receipts[0], "digest": "ab" * 32}
    outcome = verify(folder, "--receipt", text(wrong), "--receipt", text(receipts[-1]), "--receipt", text(receipts[1]))
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[1:] == [
        (
            f"receipt {wrong['position']}: record {wrong['position']} has another digest: the log was rewritten from there or"
            " before"
        ),
        f"receipt {total}: the log ends at {total - 1}: records were removed",
    ]
    assert outcome.stdout.startswith(f"receipt {receipts[1]['position']}: the log holds it")


def test_a_receipt_after_a_fault_shows_nothing(folder: Path, receipts: list[dict[str, Any]]) -> None:
    with shell(folder) as log:
        log.execute("UPDATE transitions SET actor = 'mallory' WHERE position = 3")
    before, after = receipts[0], receipts[-1]
    outcome = verify(folder, "--receipt", text(before), "--receipt", text(after))
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith(f"receipt {before['position']}: the log holds it")
    last = f"receipt {after['position']}: not shown: the log is not what was written from record 3 on"
    assert outcome.stderr.splitlines()[-1] == last


def test_a_receipt_of_a_record_that_is_missing(folder: Path, receipts: list[dict[str, Any]]) -> None:
    with shell(folder) as log:
        log.execute("DELETE FROM transitions WHERE position = ?", (receipts[0]["position"],))
    outcome = verify(folder, "--receipt", text(receipts[0]))
    position = receipts[0]["position"]
    assert f"receipt {position}: record {position} is missing" in outcome.stderr.splitlines()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("812.abc", "a receipt is a position"),
        ('{"position": 1}', "a JSON object with position and digest: "),
        ('{"position": 1, "digest": "ab"}', "a receipt is a position"),
        ('{"position": ', "a JSON object with position and digest: "),
    ],
)
def test_what_is_no_receipt_is_said(folder: Path, line: str, says: str) -> None:
    outcome = verify(folder, "--receipt", "-", stdin=f"\n{line}\n")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"interlock: standard input, line 2: {says}")
    outcome = verify(folder, "--receipt", "nonsense")
    assert (outcome.exit_code, outcome.stderr.startswith("interlock: a receipt is")) == (2, True)
