"""The generated files: the committed ones match the declaration, and each of them shows all of it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from interlock.spec import export
from interlock.spec.diagrams import mermaid, svg
from interlock.spec.export import (
    GENERATED,
    LIFECYCLES,
    artefacts,
    as_json,
    as_markdown,
    as_sql,
    drift,
    main,
    sql_rows,
    sql_table,
    write,
)
from interlock.spec.lifecycles import SESSION
from interlock.spec.transitions import GuardTerm, Lifecycle, NamedRow, StateRow, TransitionRow

Shown = tuple[str, str | None, str, tuple[str, ...]]
"""A transition as the files show it: event, source, target, guards."""

_each_lifecycle = pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda lifecycle: lifecycle.name)


def _rows(lifecycle: Lifecycle) -> list[Shown]:
    return [(t.event, t.source, t.target, tuple(map(str, t.guards))) for t in lifecycle.transitions]


def _guards(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def _job() -> Lifecycle:
    """Return a lifecycle with what the session's lacks: two ends, a way back, rows that differ only in their guards."""
    states = [("open", True, False), ("done", False, True), ("busy", False, False), ("late", False, False)]
    ways = [
        ("submit", None, "open", ""),
        ("start", "open", "busy", "free"),
        ("start", "open", "busy", "urgent"),
        ("wait", "busy", "late", ""),
        ("wait", "busy", "done", "urgent"),
        ("retry", "late", "open", "free"),
        ("give_up", "late", "failed", ""),
        ("fail", "open", "failed", ""),
    ]
    rows = [
        TransitionRow(event, source, target, tuple(GuardTerm(g, expected=True) for g in _guards(guard)))
        for event, source, target, guard in ways
    ]
    return Lifecycle(
        name="job",
        description="It's a job, for <everyone> & all.",
        states=tuple(
            StateRow(name, f"It's {name}.", initial=initial, final=final)
            for name, initial, final in [*states, ("failed", False, True)]
        ),
        events=tuple(NamedRow(event, f"It does {event}.") for event, *_ in ways),
        guards=(NamedRow("free", "It's free."), NamedRow("urgent", "It's urgent.")),
        transitions=tuple(rows),
    )


def test_the_committed_files_are_the_generated_ones() -> None:
    assert drift(GENERATED) == []


def test_each_lifecycle_has_one_file_of_each_kind() -> None:
    assert sorted(artefacts()) == [
        f"{name}.{kind}"
        for name in ("account", "execution", "secret", "session")
        for kind in ("json", "md", "mmd", "pml", "sql", "svg")
    ]


@_each_lifecycle
def test_the_json_holds_every_row(lifecycle: Lifecycle) -> None:
    read = json.loads(artefacts()[f"{lifecycle.name}.json"])
    assert [
        (
            t["event"],
            t["source"],
            t["target"],
            tuple(("" if g["expected"] else "not ") + g["name"] for g in t["guards"]),
        )
        for t in read["transitions"]
    ] == _rows(lifecycle)
    assert [(s["name"], s["description"], s["initial"], s["final"]) for s in read["states"]] == [
        (s.name, s.description, s.initial, s.final) for s in lifecycle.states
    ]
    for kind, rows in (("events", lifecycle.events), ("guards", lifecycle.guards)):
        assert [(row["name"], row["description"]) for row in read[kind]] == [
            (row.name, row.description) for row in rows
        ]


def _loaded(script: str) -> list[tuple[str, str, str, str, str]]:
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(script)
        rows = connection.execute("SELECT kind, event, source, target, guards FROM lifecycle").fetchall()
    connection.close()
    return rows


@_each_lifecycle
def test_the_sql_holds_every_row(lifecycle: Lifecycle) -> None:
    loaded = _loaded(artefacts()[f"{lifecycle.name}.sql"])
    rows = _rows(lifecycle)
    assert {(event, source or None, target, _guards(g)) for _, event, source, target, g in loaded} == set(rows)
    assert {row[0] for row in loaded} == {lifecycle.name}
    assert len(loaded) == len(rows)


def test_sql_rows_fill_the_table() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(sql_table())
    connection.executemany("INSERT INTO lifecycle VALUES (?, ?, ?, ?, ?)", sql_rows(SESSION))
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO lifecycle VALUES ('session', 'create', '', 'created', 'again')")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO lifecycle VALUES ('session', 'create', NULL, 'created', '')")
    connection.close()


def test_rows_that_differ_only_in_guards_are_joined() -> None:
    assert ("job", "start", "open", "busy", "free | urgent") in sql_rows(_job())
    assert sorted(_loaded(as_sql(_job()))) == sorted(sql_rows(_job()))
    assert len(sql_rows(_job())) == len(_job().transitions) - 1


def test_sql_text_is_quoted() -> None:
    odd = TransitionRow("it's", None, "'); DROP TABLE lifecycle; --", ())
    lifecycle = Lifecycle("odd", "Odd.", (), (), (), (odd,))
    assert _loaded(as_sql(lifecycle)) == [("odd", "it's", "", "'); DROP TABLE lifecycle; --", "")]


@_each_lifecycle
def test_mermaid_shows_every_row(lifecycle: Lifecycle) -> None:
    text = artefacts()[f"{lifecycle.name}.mmd"]
    found = re.findall(r"^  (\S+) --> (\S+) : (\w+)(?: \[(.*)\])?$", text, re.MULTILINE)
    assert [
        (event, None if source == "[*]" else source, target, _guards(guards)) for source, target, event, guards in found
    ] == _rows(lifecycle)
    assert re.findall(r"^  (\w+) --> \[\*\]$", text, re.MULTILINE) == [s.name for s in lifecycle.states if s.final]
    assert "stateDiagram-v2" in text.splitlines()


@_each_lifecycle
def test_markdown_shows_every_row(lifecycle: Lifecycle) -> None:
    sections = dict(part.split("\n", 1) for part in artefacts()[f"{lifecycle.name}.md"].split("## ")[1:])
    tables = {
        name: [tuple(cell.strip() for cell in line[1:-2].split("|")) for line in text.strip().splitlines()[2:]]
        for name, text in sections.items()
    }
    shown: list[Shown] = []
    for event, way, guards in tables["Transitions"]:
        names = re.findall(r"`(\w+)`", way)
        source = None if way.startswith("→") else names[0]
        shown.append((event.strip("`"), source, names[-1], _guards(guards)))
        assert ("stays" in way) == (source == names[-1])
    assert shown == _rows(lifecycle)
    assert [(name.strip("`"), text) for name, _, text in tables["States"]] == [
        (s.name, s.description) for s in lifecycle.states
    ]
    assert [kind for _, kind, _ in tables["States"]] == [
        "initial" if state.initial else "final" if state.final else "" for state in lifecycle.states
    ]
    assert [(name.strip("`"), text) for name, text in tables["Events"]] == [
        (e.name, e.description) for e in lifecycle.events
    ]
    assert [(name.strip("`"), text) for name, text in tables.get("Guards", [])] == [
        (g.name, g.description) for g in lifecycle.guards
    ]


@pytest.mark.parametrize("lifecycle", [*LIFECYCLES, _job()], ids=lambda lifecycle: lifecycle.name)
def test_the_svg_shows_every_row(lifecycle: Lifecycle) -> None:
    root = ET.fromstring(svg(lifecycle))  # noqa: S314  # this project's own text
    space = {"svg": "http://www.w3.org/2000/svg"}
    spans = root.findall(".//svg:tspan", space)
    assert sorted(span.text or "" for span in spans if span.get("class") == "event") == sorted(
        row.event for row in lifecycle.transitions
    )
    asked = re.findall(r"not \w+|\w+", " ".join(span.text or "" for span in spans if span.get("class") == "guard"))
    assert sorted(asked) == sorted(str(guard) for row in lifecycle.transitions for guard in row.guards)
    names = [text.text for text in root.findall(".//svg:text[@class='name']", space)]
    assert names == [s.name for s in sorted(lifecycle.states, key=lambda state: (state.final, not state.initial))]
    pairs = {(row.source, row.target) for row in lifecycle.transitions}
    assert len(root.findall(".//svg:path[@class='arrow']", space)) == len(pairs)
    assert len(root.findall(".//svg:rect[@class='inner']", space)) == sum(state.final for state in lifecycle.states)
    described = root.findtext("svg:desc", namespaces=space) or ""
    assert all(f"{r.event}: {r.source or 'nothing'} to {r.target}" in described for r in lifecycle.transitions)
    assert lifecycle.description in described
    assert root.findtext("svg:title", namespaces=space) == f"The {lifecycle.name} lifecycle"


@_each_lifecycle
def test_nothing_in_the_svg_overlaps_or_lies_outside(lifecycle: Lifecycle) -> None:
    """Boxes and label lines, measured with the layout's widths, overlap neither each other nor the frame."""
    root = ET.fromstring(svg(lifecycle))  # noqa: S314  # this project's own text
    space = "{http://www.w3.org/2000/svg}"
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    areas: list[tuple[float, float, float, float]] = []
    for rect in root.iter(f"{space}rect"):
        if rect.get("class") == "box":
            x, y, w, h = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
            areas.append((x, y, x + w, y + h))
    for text in root.iter(f"{space}text"):
        if text.get("class") != "name":
            w = sum(len(span.text or "") * (8 if span.get("class") == "event" else 6.8) for span in text)
            x, y = float(text.get("x", "0")), float(text.get("y", "0"))
            left = x - w / 2 if text.get("text-anchor") == "middle" else x
            areas.append((left, y - 12, left + w, y + 3))
    assert len(areas) >= len(lifecycle.states) + len(lifecycle.transitions)
    for n, (left, top, right, bottom) in enumerate(areas):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for other_left, other_top, other_right, other_bottom in areas[:n]:
            assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


def test_every_export_format_supports_any_lifecycle() -> None:
    job = _job()
    assert json.loads(as_json(job))["name"] == "job"
    assert "late --> failed : give_up" in mermaid(job)
    assert "| `retry` | `late` → `open` | free |" in as_markdown(job)


def test_the_export_is_reproducible(tmp_path: Path) -> None:
    write(tmp_path / "generated")
    for name, text in artefacts().items():
        assert (tmp_path / "generated" / name).read_bytes() == text.encode() == (GENERATED / name).read_bytes()


def test_drift_names_what_differs_is_missing_or_is_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "session.json").write_text("{}")
    (tmp_path / "session.svg").unlink()
    (tmp_path / "old.md").touch()
    assert main(["--check"], tmp_path) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[:-1] == [
        f"{tmp_path.name}/{line}" for line in ("old.md: extra", "session.json: differs", "session.svg: missing")
    ]
    assert main([], tmp_path) == 0
    assert drift(tmp_path) == ["old.md: extra"]


def test_a_missing_export_folder_lacks_everything(tmp_path: Path) -> None:
    assert drift(tmp_path / "nowhere") == sorted(f"{name}: missing" for name in artefacts())


def test_a_changed_declaration_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = Lifecycle(
        SESSION.name, SESSION.description, SESSION.states, SESSION.events, SESSION.guards, SESSION.transitions[:-1]
    )
    monkeypatch.setattr(export, "LIFECYCLES", (fewer, *LIFECYCLES[1:]))
    assert drift(GENERATED) == [f"session.{kind}: differs" for kind in ("json", "md", "mmd", "pml", "sql", "svg")]


def test_the_drift_command_works() -> None:
    assert subprocess.run([sys.executable, "-m", "interlock.spec.export", "--check"], check=False).returncode == 0
