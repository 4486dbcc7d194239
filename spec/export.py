"""Generate files from the rows: ``python -m interlock.spec.export`` writes them, and ``--check`` finds drift.

The files in ``spec/generated/`` are committed, so that a reviewer sees what a change of a declaration does to the database, to
other languages and to the docs. Every run writes the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.diagrams import mermaid, svg
from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SECRET, SESSION
from interlock.spec.promela import promela
from interlock.spec.transitions import Lifecycle, TransitionRow

GENERATED: Final = Path(__file__).parent / "generated"
"""The folder of the generated files, which are committed."""

LIFECYCLES: Final[tuple[Lifecycle, ...]] = (SESSION, ACCOUNT, SECRET, EXECUTION)
"""Every declared lifecycle. Each gets one file of every kind."""


def as_json(lifecycle: Lifecycle) -> str:
    """Return the rows of ``lifecycle`` as indented JSON, in the shape of :class:`interlock.spec.transitions.Lifecycle`."""
    return msgspec.json.format(msgspec.json.encode(lifecycle), indent=2).decode() + "\n"


def sql_table() -> str:
    """Return the ``CREATE TABLE`` statement of the table that :func:`sql_rows` fills.

    ``source`` is '' for the creation of an instance, because a primary key can't hold NULL.
    """
    return (
        "CREATE TABLE IF NOT EXISTS lifecycle (\n"
        "  kind TEXT NOT NULL,\n"
        "  event TEXT NOT NULL,\n"
        "  source TEXT NOT NULL,\n"
        "  target TEXT NOT NULL,\n"
        "  guards TEXT NOT NULL,\n"
        "  PRIMARY KEY (kind, event, source, target)\n"
        ") STRICT, WITHOUT ROWID"
    )


def sql_rows(lifecycle: Lifecycle) -> list[tuple[str, str, str, str, str]]:
    """Return ``(kind, event, source, target, guards)`` of each transition of ``lifecycle``, unique in the first four.

    Transitions that differ only in their guards become one row, with their guards joined by `` | ``.
    """
    guards: dict[tuple[str, str, str], list[str]] = {}
    for row in lifecycle.transitions:
        guards.setdefault((row.event, row.source or "", row.target), []).append(_guards(row))
    return [(lifecycle.name, *key, " | ".join(alternatives)) for key, alternatives in guards.items()]


def as_sql(lifecycle: Lifecycle) -> str:
    """Return an SQL script that creates and fills the table of legal transitions."""
    values = ",\n".join("  (" + ", ".join(map(_quoted, row)) + ")" for row in sql_rows(lifecycle))
    insert = f"INSERT INTO lifecycle (kind, event, source, target, guards) VALUES\n{values};"
    return f"-- The legal transitions of the {lifecycle.name} lifecycle. {_ORIGIN}\n{sql_table()};\n\n{insert}\n"


def as_markdown(lifecycle: Lifecycle) -> str:
    """Return the tables of states, events, guards and transitions as Markdown sections, for the docs."""
    kinds = {(True, False): "initial", (False, True): "final"}
    states = [(f"`{s.name}`", kinds.get((s.initial, s.final), ""), s.description) for s in lifecycle.states]
    guards = [(f"`{guard.name}`", guard.description) for guard in lifecycle.guards]
    transitions = [(f"`{row.event}`", _path(row), _guards(row)) for row in lifecycle.transitions]
    sections = [
        f"<!-- {_ORIGIN} -->\n\n{lifecycle.description}\n",
        "## States\n\n" + _table(("state", "", "meaning"), states),
        "## Events\n\n" + _table(("event", "meaning"), [(f"`{e.name}`", e.description) for e in lifecycle.events]),
        *(["## Guards\n\n" + _table(("guard", "true when"), guards)] if guards else []),
        "## Transitions\n\n" + _table(("event", "from → to", "guards"), transitions),
    ]
    return "\n".join(sections)


def as_promela(lifecycle: Lifecycle) -> str:
    """Return the transition relation of the model, as Promela macros."""
    return f"/* The legal transitions of the {lifecycle.name} lifecycle. {_ORIGIN} */\n\n{promela(lifecycle)}"


def artefacts() -> dict[str, str]:
    """Return the text of every generated file, by name."""
    kinds = {"json": as_json, "sql": as_sql, "mmd": mermaid, "svg": svg, "md": as_markdown, "pml": as_promela}
    return {f"{lifecycle.name}.{suffix}": make(lifecycle) for lifecycle in LIFECYCLES for suffix, make in kinds.items()}


def write(folder: Path = GENERATED) -> None:
    """Write every generated file into ``folder``, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in artefacts().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def drift(folder: Path = GENERATED) -> list[str]:
    """Compare ``folder`` with what would be generated. Return one line for each file that differs, is missing, or is extra."""
    expected = artefacts()
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    lines = [f"{name}: missing" for name in expected.keys() - present.keys()]
    lines += [f"{name}: extra" for name in present.keys() - expected.keys()]
    lines += [
        f"{name}: differs"
        for name in expected.keys() & present.keys()
        if present[name].read_bytes() != expected[name].encode()
    ]
    return sorted(lines)


def main(arguments: list[str], folder: Path = GENERATED) -> int:
    """Run the command. The exit code is 1 if ``--check`` finds drift, which is listed on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m interlock.spec.export", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a generated file is stale")
    if not parser.parse_args(arguments).check:
        write(folder)
        return 0
    lines = drift(folder)
    for line in lines:
        sys.stderr.write(f"{folder.name}/{line}\n")
    if lines:
        sys.stderr.write("run `make generate`, delete what is extra, and read the difference\n")
    return 1 if lines else 0


_ORIGIN: Final = "Generated by `make generate`; do not edit."


def _guards(row: TransitionRow) -> str:
    return ", ".join(map(str, row.guards))


def _path(row: TransitionRow) -> str:
    if row.source is None:
        return f"→ `{row.target}`"
    return f"`{row.source}` stays" if row.source == row.target else f"`{row.source}` → `{row.target}`"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
