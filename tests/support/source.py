"""The source code itself, for promises about which code may do what."""

from __future__ import annotations

import ast
import functools
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_sources(folder: Path, *more: str) -> None:
    """Copy the package ``interlock`` with its links' targets, and ``more``, into ``folder``: to run them changed."""
    for name in ("interlock", "spec", "machine", "server", *more):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))


@functools.cache
def modules(folder: str) -> list[tuple[str, ast.Module]]:
    """Return path and tree of each module below ``folder``. The trees are shared, so change none."""
    return [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imports(tree: ast.Module) -> set[str]:
    """Return the full names of the modules that ``tree`` imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def calls(tree: ast.Module) -> set[str]:
    """Return the calls in ``tree``, as written: ``self._log.append``."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def names(tree: ast.Module) -> set[str]:
    """Return every variable, attribute and parameter in ``tree``, in lower case."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name.lower())
    return found
