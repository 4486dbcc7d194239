"""The page on traces agrees with the trace format, and its example is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

from interlock.spec.model.trace.checker import check
from interlock.spec.model.trace.lines import AnyLine, Line
from interlock.spec.properties import PROPERTIES
from tests.docs.pages import DOCS, ROOT, captioned

PAGE = "reference/trace-format.md"


def _rows(first: str) -> dict[str, str]:
    """Return first cell, as code, and the rest of each row of the table whose first column is ``first``."""
    table = (DOCS / PAGE).read_text().partition(f"| {first} |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1:] for line in table.splitlines()[2:]]
    return {cell.strip().strip("`"): rest[0] for cell, *rest in cells}


def test_every_trace_type_and_field_is_documented() -> None:
    assert list(_rows("field")) == ["type", *Line.__struct_fields__]
    types = {line.__struct_config__.tag: line.__struct_fields__ for line in get_args(AnyLine)}
    told = {name: tuple(fields.strip().strip("`").split("`, `")) for name, fields in _rows("type").items()}
    assert told == {name: fields[len(Line.__struct_fields__) :] for name, fields in types.items()}


def test_every_rule_belongs_to_a_published_property() -> None:
    assert set(_rows("property")) <= {promised.name for promised in PROPERTIES} | {"format"}


def test_the_pages_example_is_a_valid_trace(tmp_path: Path) -> None:
    example = captioned(PAGE, "trace.jsonl")
    assert check([example.splitlines()]).appends == 2
    (tmp_path / "trace.jsonl").write_text(example)
    (tmp_path / "check_traces.py").write_text(captioned(PAGE, "check_traces.py"))

    def run() -> tuple[int, str]:
        command = [sys.executable, str(tmp_path / "check_traces.py"), str(tmp_path / "trace.jsonl")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}, cwd=ROOT
        )
        return done.returncode, done.stdout + done.stderr

    assert run() == (0, "5 lines, 2 records of 1 sessions and 0 executions\n")
    (tmp_path / "trace.jsonl").write_text(example.replace('"version":2,"view":2', '"version":3,"view":3'))
    status, said = run()
    assert status == 1
    assert said.startswith("line 5 of node-1: acknowledged_logged: ")
