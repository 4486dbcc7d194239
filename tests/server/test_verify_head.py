"""``interlock verify`` with the signed head and with receipts."""

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


def _receipts(output: str) -> list[int]:
    return [int(position) for position in re.findall(r"^receipt (\d+): ", output, re.MULTILINE)]


@pytest.mark.parametrize(
    ("spoil", "arguments", "named"),
    [
        ("head", (), "{folder}/interlock.head"),
        ("head", ("--head-file", "{folder}/nowhere"), "{folder}/nowhere"),
        ("keys", (), "{folder}/keys"),
    ],
)
def test_verify_can_require_a_head(folder: Path, spoil: str, arguments: tuple[str, ...], named: str) -> None:
    assert verify(folder, "--require-head").exit_code == 0
    if spoil == "head":
        cut(folder, len(records(folder)) - 1)
        (folder / "interlock.head").unlink()
    else:
        shutil.rmtree(folder / "keys")
    outcome = verify(folder, "--require-head", *(each.format(folder=folder) for each in arguments))
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert named.format(folder=folder) in outcome.stderr


@pytest.mark.parametrize("gone", [1, 2])
def test_the_head_shows_a_cut_off_tail(folder: Path, gone: int) -> None:
    total = len(records(folder))
    cut(folder, total - gone)
    outcome = verify(folder)
    assert outcome.exit_code == 1
    assert re.findall(r"\d+", outcome.stderr)[:2] == [str(total - gone), str(total)]


def test_a_shortened_log_without_head_passes_with_a_note(folder: Path) -> None:
    cut(folder, len(records(folder)) - 1)
    (folder / "interlock.head").unlink()
    outcome = verify(folder)
    assert outcome.exit_code == 0
    assert "no signed head" in outcome.stdout


def test_without_keys_the_head_is_compared_but_not_verified(folder: Path) -> None:
    shutil.rmtree(folder / "keys")
    total = len(records(folder))
    outcome = verify(folder)
    assert outcome.exit_code == 0
    assert f"record {total}, " in outcome.stdout
    assert f"{folder}/keys\n" in outcome.stdout
    cut(folder, total - 1)
    assert verify(folder).exit_code == 1


def test_verify_does_not_use_keys_readable_by_others(folder: Path) -> None:
    (key,) = (folder / "keys").glob("signing-*.pem")
    key.chmod(0o644)
    assert verify(folder, "--require-head").exit_code == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda head: head.write_text("garbage"),
        lambda head: head.write_bytes(b"\xff\xfe"),
        lambda head: head.write_text(""),
        lambda head: (head.unlink(), head.mkdir()),
        lambda head: head.write_text(head.read_text().rpartition(".")[0] + "." + "A" * 86),
    ],
)
def test_an_invalid_head_is_a_fault(folder: Path, spoil: Callable[[Path], object]) -> None:
    spoil(folder / "interlock.head")
    outcome = verify(folder)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"fault: {folder}/interlock.head: ")


def test_verify_reads_a_head_from_another_path(folder: Path, tmp_path: Path) -> None:
    elsewhere = (folder / "interlock.head").rename(tmp_path / "the.head")
    for outcome in (
        verify(folder, "--head-file", elsewhere),
        verify(INTERLOCK_DATA=str(folder), INTERLOCK_HEAD_FILE=str(elsewhere)),
        verify(folder / "interlock.db", "--head-file", elsewhere),
    ):
        assert "no signed head" not in outcome.stdout
    assert "no signed head" in verify(folder, INTERLOCK_HEAD_FILE=str(elsewhere)).stdout, (
        "that is the server's own log's"
    )
    missing = verify(folder, "--head-file", tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert f"{tmp_path}/nowhere\n" in missing.stderr


def test_verify_confirms_every_receipt(folder: Path, receipts: list[dict[str, Any]]) -> None:
    outcome = verify(folder, *(part for receipt in receipts for part in ("--receipt", text(receipt))))
    assert outcome.exit_code == 0, outcome.output
    by_position = {record["position"]: record for record in records(folder)}
    shown = [by_position[receipt["position"]] for receipt in receipts]
    for line, record in zip(outcome.stdout.splitlines()[:-1], shown, strict=True):
        assert line.startswith(f"receipt {record['position']}: ")
        assert f"{record['event']} of session {record['instance_id']}" in line


def test_verify_reads_receipts_from_standard_input(folder: Path, receipts: list[dict[str, Any]]) -> None:
    lines = [text(receipts[0]), "", json.dumps(receipts[1]), json.dumps(records(folder)[0])]
    outcome = verify(folder, "--receipt", "-", stdin="\n".join(lines) + "\n")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.count("receipt ") == 3


def test_receipts_missing_from_the_log_are_faults(folder: Path, receipts: list[dict[str, Any]]) -> None:
    total = len(records(folder))
    cut(folder, total - 1)
    wrong = {**receipts[0], "digest": "ab" * 32}
    outcome = verify(folder, "--receipt", text(wrong), "--receipt", text(receipts[-1]), "--receipt", text(receipts[1]))
    assert outcome.exit_code == 1
    assert _receipts(outcome.stderr) == [wrong["position"], total]
    assert _receipts(outcome.stdout) == [receipts[1]["position"]]


def test_a_receipt_after_a_fault_is_not_confirmed(folder: Path, receipts: list[dict[str, Any]]) -> None:
    with shell(folder) as log:
        log.execute("UPDATE transitions SET actor = 'mallory' WHERE position = 6")
    before, after = receipts[0], receipts[-1]
    outcome = verify(folder, "--receipt", text(before), "--receipt", text(after))
    assert outcome.exit_code == 1
    assert (_receipts(outcome.stdout), _receipts(outcome.stderr)) == ([before["position"]], [after["position"]])
    assert "record 6 " in outcome.stderr.splitlines()[-1]


def test_a_receipt_of_a_removed_record_is_a_fault(folder: Path, receipts: list[dict[str, Any]]) -> None:
    with shell(folder) as log:
        log.execute("DELETE FROM transitions WHERE position = ?", (receipts[0]["position"],))
    outcome = verify(folder, "--receipt", text(receipts[0]))
    assert _receipts(outcome.stderr) == [receipts[0]["position"]]


@pytest.mark.parametrize("line", ["812.abc", '{"position": 1}', '{"position": 1, "digest": "ab"}', '{"position": '])
def test_a_malformed_receipt_is_an_error(folder: Path, line: str) -> None:
    outcome = verify(folder, "--receipt", "-", stdin=f"\n{line}\n")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "line 2: " in outcome.stderr
    assert verify(folder, "--receipt", "nonsense").exit_code == 2
