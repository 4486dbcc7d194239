"""``interlock verify`` against the signed head and against receipts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.log import records
from tests.support.tampering import cut, shell
from tests.support.verifying import text, verify


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
        f"receipt {record['position']}: the log holds it ({record['event']} of session {record['instance_id']})"
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
