"""``interlock check`` and ``interlock check-trace``, as a user at a terminal sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.log import interlock
from tests.support.source import ROOT, copy_sources

_TRACES = ROOT / "tests" / "spec" / "traces"


def test_a_successful_check_names_its_bounds() -> None:
    done = interlock("check", "--only", "durability")
    assert done.returncode == 0, done.stderr
    assert "holds" in done.stdout
    assert "durability: RECORDS 4, RESTARTS 2, CUTS 1, FAILURES 1" in done.stdout


def test_a_selected_mutants_counterexample_is_printed() -> None:
    done = interlock("check", "--only", "ack_before_sync")
    assert done.returncode == 0, done.stderr
    assert "caught" in done.stdout
    assert "  1. " in done.stdout
    assert "durability: " in done.stdout


def test_an_unknown_check_name_is_refused() -> None:
    done = interlock("check", "--only", "no_such_check")
    assert done.returncode == 2
    assert "no_such_check" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("check", "--only", "durability"), ("check-trace", _TRACES / "golden" / "life.jsonl")]
)
def test_check_without_spin_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = interlock(*arguments)
    assert done.returncode == 2
    assert "apt-get install spin gcc" in done.stderr


def test_valid_traces_are_counted() -> None:
    done = interlock("check-trace", _TRACES / "golden" / "life.jsonl", _TRACES / "golden" / "kill.jsonl")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\d+", done.stdout) == ["2", "42", "2", "2", "0", "0"]


def test_valid_traces_of_executions_are_counted() -> None:
    done = interlock("check-trace", "--expect", "session", "--expect", "execution", _TRACES / "executions" / "golden")
    assert done.returncode == 0, done.stderr
    traces, _, sessions, _, executions, different = map(int, re.findall(r"\d+", done.stdout))
    assert (traces, sessions, executions) == (13, 12, 15)
    assert different > 5


def test_traces_without_an_expected_execution_are_a_failure() -> None:
    """So that a suite that stopped running intents is noticed."""
    done = interlock("check-trace", "--expect", "execution", _TRACES / "golden" / "life.jsonl")
    assert done.returncode == 1
    assert "the files have no execution" in done.stderr


def test_a_bad_trace_of_an_execution_is_named_by_rules_and_model() -> None:
    done = interlock("check-trace", _TRACES / "executions" / "bad" / "an-execution-started-after-the-end.jsonl")
    assert done.returncode == 1
    assert "an-execution-started-after-the-end.jsonl: line 10 of node-1: no_execution_after_fence: " in done.stderr
    assert "execution e1: the model has no execution that goes on with append by node-1" in done.stderr


def test_traces_of_several_nodes_on_one_log_are_checked_together() -> None:
    nodes = sorted((_TRACES / "golden").glob("two-nodes.node-*.jsonl"))
    assert interlock("check-trace", "--one-log", *nodes).returncode == 0
    apart = interlock("check-trace", *nodes)
    assert apart.returncode == 1
    assert "two-nodes.node-1.jsonl" in apart.stderr


def test_a_bad_trace_is_named_by_line_and_property() -> None:
    done = interlock("check-trace", _TRACES / "bad" / "an-orphan-is-left.jsonl")
    assert done.returncode == 1
    assert "an-orphan-is-left.jsonl: line 15 of node-1: orphan_reaped: " in done.stderr


def test_a_folder_without_traces_is_a_failure(tmp_path: Path) -> None:
    done = interlock("check-trace", tmp_path)
    assert done.returncode == 1


def test_a_broken_declarations_counterexample_is_printed(tmp_path: Path) -> None:
    """The declaration was edited by hand: the command names the property and prints the shortest counterexample."""
    copy_sources(tmp_path)
    declaration = tmp_path / "spec" / "session.py"
    text = declaration.read_text()
    assert text.count(', unless="last_connection")') == 1
    declaration.write_text(text.replace(', unless="last_connection")', ")"))
    done = subprocess.run(
        [sys.executable, "-m", "interlock.server.cli", "check", "--only", "lifecycle"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
    assert "owner_coherence: " in done.stdout
