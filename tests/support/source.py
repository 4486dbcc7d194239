"""What the source itself says, for the promises that are about who may do what."""

from __future__ import annotations

import ast
import functools
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_sources(folder: Path, *more: str) -> None:
    """Copy the package ``interlock`` with what its links name, and ``more``, into ``folder``: to run them changed."""
    for name in ("interlock", "spec", "machine", "server", *more):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))


@functools.cache
def modules(folder: str) -> list[tuple[str, ast.Module]]:
    """Path and tree of each module below ``folder``. Change no tree: others are given it, too."""
    return [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imports(tree: ast.Module) -> set[str]:
    """The full names of the modules that ``tree`` imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def calls(tree: ast.Module) -> set[str]:
    """What ``tree`` calls, as written: ``self._log.append``."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def names(tree: ast.Module) -> set[str]:
    """Every variable, attribute and parameter in ``tree``, in lower case."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name.lower())
    return found
