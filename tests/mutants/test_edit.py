"""An edit finds its definition and node wherever they are, and reports if they are gone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.edit import Edit, applied, at, drop, in_text, replace, returns
from tests.mutants.pattern import EditError

CODE = '''
LIMITS: Final = {"a": "SELECT  1 WHERE x = 1", "b": 2}


class Door:
    """A door."""

    size = 3

    @property
    def open(self) -> bool:
        if self.locked:
            raise Locked(401, "locked", by=who)
        return self.size > 2 and not self.locked

    def enter(self, who: str) -> None:
        self.note(who, at=1)
        self.inside.append(who)


def leave(door: Door) -> int:
    return door.count(who=1)
'''


GUARD = """        if self.locked:
            raise Locked(401, "locked", by=who)
"""
ENTERS = """self.note(who, at=1)
        self.inside.append(who)"""


def edited(tmp_path: Path, edits: tuple[Edit, ...], code: str = CODE) -> str:
    (tmp_path / "machine").mkdir(exist_ok=True)
    (tmp_path / "machine" / "door.py").write_text(code)
    [text] = applied(tmp_path, edits).values()
    return text


def _tree(code: str) -> str:
    return ast.dump(ast.parse(code))


@pytest.mark.parametrize(
    ("edits", "before", "after"),
    [
        (at("door:leave", returns("1")), "return door.count(who=1)", "return 1"),
        (at("door:Door.size", replace("3", "4")), "size = 3", "size = 4"),
        (at("door:Door.open", drop("property")), "    @property\n", ""),
        (at("door:Door.open", drop("self.size > 2")), "self.size > 2 and not", "not"),
        (
            at("door:Door.open", replace("raise Locked(401, ...)", "pass")),
            'raise Locked(401, "locked", by=who)',
            "pass",
        ),
        (at("door:Door.open", drop("if self.locked: ...")), GUARD, ""),
        (at("door:Door.open", replace("self.size > 2", "... > 1")), "self.size > 2", "(self.size > 2) > 1"),
        (at("door:Door.enter", drop("self.note(who, at=1)")), "        self.note(who, at=1)\n", ""),
        (at("door:Door.enter", drop("at=1")), ", at=1", ""),
        (at("door:Door.enter", replace("at=1", "**..., by=2")), "at=1", "at=1, by=2"),
        (at("door:Door.enter", replace("self.note(...)\nself.inside.append(who)", "pass")), ENTERS, "pass"),
        (at("door:Door", replace("size = 3", "...\nwidth = 1")), "size = 3\n", "size = 3\n    width = 1\n"),
        (at("door:LIMITS", in_text("1 WHERE x", "2 WHERE y")), "1 WHERE x", "2 WHERE y"),
    ],
)
def test_an_edit_changes_one_node_and_nothing_else(
    tmp_path: Path, edits: tuple[Edit, ...], before: str, after: str
) -> None:
    assert CODE.count(before) == 1
    assert _tree(edited(tmp_path, edits)) == _tree(CODE.replace(before, after))


def test_several_definitions_of_a_file_can_be_edited(tmp_path: Path) -> None:
    text = edited(tmp_path, at("door:Door.size", replace("3", "4")) + at("door:leave", drop("who=1")))
    assert _tree(text) == _tree(CODE.replace("size = 3", "size = 4").replace("who=1", ""))


def test_moved_and_reformatted_code_keeps_its_mutants(tmp_path: Path) -> None:
    edits = at("elsewhere:Door.enter", replace("self.note(who, at=1)", "pass"))
    formatted = "import re\n" + CODE.replace(
        "self.note(who, at=1)", "self.note(\n            who,  # them\n            at=1,\n        )"
    )
    assert "pass" in edited(tmp_path, edits, formatted)


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        (at("door:Door.close", returns("True")), "0 times"),
        (at("door:Door.size", returns("True")), "only a function"),
        (at("door:Door.open", replace("self.nobody", "1")), "0 times"),
        (at("door:Door.open", replace("self.locked", "1")), "2 times"),
        (at("door:Door.size", replace("3", "3")), "nothing changes"),
        (at("door:Door.size", drop("3")), "needs something"),
        (at("door:LIMITS", in_text("y = 1", "")), "0 times"),
    ],
)
def test_an_edit_without_its_place_is_an_error(tmp_path: Path, edits: tuple[Edit, ...], says: str) -> None:
    with pytest.raises(EditError, match=rf"^door:.*{says}"):
        edited(tmp_path, edits)


def test_the_module_selects_among_definitions_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "server" / "runtime").mkdir(parents=True)
    (tmp_path / "server" / "runtime" / "hall.py").write_text(CODE)
    edits = at("runtime.hall:Door.size", replace("3", "4"))
    assert "size = 4" in edited(tmp_path, edits)
    [path] = applied(tmp_path, edits)
    assert path.name == "hall.py"
    with pytest.raises(EditError, match="2 times"):
        applied(tmp_path, at("nowhere:Door.size", replace("3", "4")))


def test_an_edit_of_a_page_changes_only_fenced_blocks(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("listen 443;\n\n```nginx\nlisten   443;\n```\n")
    [text] = applied(tmp_path, at("page.md", in_text("listen 443;", "listen 80;"))).values()
    assert text == "listen 443;\n\n```nginx\nlisten 80;\n```\n"
