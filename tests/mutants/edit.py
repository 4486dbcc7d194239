"""An edit of the real code: it names a definition and a node in it, and the node's replacement.

Code is compared as syntax trees, so an edit survives moves, formatting and changes elsewhere. In a pattern ``...`` stands
for anything; at the end of arguments or of a body, for all that follows. In a replacement ``...`` stands for what it
matched.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from tests.mutants.pattern import EditError, expression, put

_FOLDERS: Final = ("spec", "machine", "interlock", "server")
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


Change: TypeAlias = Callable[[ast.Module], None]
"""Changes a module whose only statement is the definition."""


class Edit(NamedTuple):
    """Changes to one definition, or to the fenced blocks of one page."""

    place: str
    changes: tuple[Change, ...]


def at(place: str, *changes: Change) -> tuple[Edit, ...]:
    """Change the definition ``module:name``, or the fenced blocks of the page ``docs/….md``.

    ``name`` is a function, a class, a constant or a field: ``Class.method``. If several definitions share a name,
    ``module``, a part of its dotted name, selects one; a unique definition may have moved.
    """
    return (Edit(place, changes),)


def returns(value: str) -> Change:
    """Let the function do nothing but return ``value``."""

    def change(module: ast.Module) -> None:
        match module.body:
            case [ast.FunctionDef() | ast.AsyncFunctionDef() as function]:
                function.body = [ast.Return(expression(value))]
            case _:
                raise EditError("only a function returns something")

    return change


def replace(old: str, new: str) -> Change:
    """Replace ``old`` by ``new``: an expression, keyword arguments, or statements."""
    return lambda module: put(module, old, new)


def drop(old: str) -> Change:
    """Remove ``old``: a statement, a decorator, an argument, an operand of ``and`` or ``or``, an element of a list."""
    return lambda module: put(module, old, None)


def in_text(old: str, new: str) -> Change:
    """Replace ``old`` by ``new`` in the only text (an SQL statement, a header, a fenced block) that contains it."""
    loosely = re.compile(r"\s+".join(map(re.escape, old.split())))

    def change(module: ast.Module) -> None:
        texts = [
            node for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ]
        if (count := sum(len(loosely.findall(_text(node))) for node in texts)) != 1:
            raise EditError(f"is in a text {count} times, not once: {old}")
        for node in texts:
            text = loosely.sub(lambda _: new, _text(node))
            node.value = text if isinstance(node.value, str) else text.encode("latin-1")

    return change


def applied(tree: Path, edits: Iterable[Edit]) -> dict[Path, str]:
    """Return the files below ``tree`` that ``edits`` change, with their new content.

    Raises:
        EditError: an edit has lost its place.
    """
    texts: dict[Path, str] = {}
    for edit in edits:
        try:
            path, name = (tree / edit.place, "") if edit.place.endswith(".md") else _located(tree, edit.place)
            text = texts.get(path) or path.read_text(encoding="utf-8")
            texts[path] = _of_code(text, name, edit.changes) if name else _of_page(text, edit.changes)
        except EditError as error:
            raise EditError(f"{edit.place}: {error}") from error
        if texts[path] == text:
            raise EditError(f"{edit.place}: nothing changes")
    return texts


def _of_page(text: str, changes: Iterable[Change]) -> str:
    blocks = _FENCED.findall(text)
    module = ast.Module([ast.Expr(ast.Constant(value=block)) for block in blocks], [])
    for change in changes:
        change(module)
    changed = iter(ast.walk(module))
    held = (_text(node) for node in changed if isinstance(node, ast.Constant))
    return _FENCED.sub(lambda _: next(held), text)


def _of_code(text: str, name: str, changes: Iterable[Change]) -> str:
    [node] = _definitions(ast.parse(text))[name]
    lines = text.split("\n")
    begin = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    module = ast.Module([node], [])
    for change in changes:
        change(module)
    # Nested in as many blocks as the definition, so that multi-line texts are not indented afterwards.
    depth = node.col_offset // 4
    for _ in range(depth):
        module = ast.Module([ast.If(ast.Constant(value=True), module.body or [ast.Pass()], [])], [])
    written = ast.unparse(ast.fix_missing_locations(module)).split("\n")[depth:]
    return "\n".join([*lines[: begin - 1], *written, *lines[node.end_lineno :]])


def _located(tree: Path, place: str) -> tuple[Path, str]:
    """Return the file with the definition that ``place`` names, and the definition's name."""
    module, _, name = place.rpartition(":")
    everywhere = _index(tree).get(name, [])
    there = [
        path for path in everywhere if f".{module}." in f".{'.'.join(path.relative_to(tree).with_suffix('').parts)}."
    ]
    found = there or everywhere
    if len(found) != 1:
        raise EditError(f"is defined {len(found)} times: {', '.join(str(path.relative_to(tree)) for path in found)}")
    return found[0], name


@functools.cache
def _index(tree: Path) -> dict[str, list[Path]]:
    """Return the files with a definition of each name. A file that defines it twice is listed twice."""
    index: dict[str, list[Path]] = {}
    for path in (path for folder in _FOLDERS for path in sorted((tree / folder).rglob("*.py"))):
        for name, nodes in _definitions(ast.parse(path.read_text(encoding="utf-8"))).items():
            index.setdefault(name, []).extend([path] * len(nodes))
    return index


def _definitions(tree: ast.AST, prefix: str = "") -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                for inner, nodes in _definitions(node, f"{prefix}{name}.").items():
                    found.setdefault(inner, []).extend(nodes)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if isinstance(
                tree, ast.Module | ast.ClassDef
            ):
                pass
            case _:
                continue
        found.setdefault(prefix + name, []).append(node)
    return found


def _text(node: ast.Constant) -> str:
    value = node.value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
