"""Every event that the source logs, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec

from interlock import server

_LEVELS = {"debug", "info", "warning", "warn", "error", "critical", "fatal", "exception", "log", "msg"}
_SERVER = Path(server.__file__).parent


class Call(msgspec.Struct, frozen=True):
    """One logger call. ``event`` is None if it is computed; ``**about`` adds ``fields`` if it is a literal."""

    place: str
    level: str
    event: str | None
    fields: frozenset[str]


def calls() -> Iterator[Call]:
    """Yield every call of a structlog logger in ``server/``, and of the standard library's."""
    for path in sorted(_SERVER.rglob("*.py")):
        tree = ast.parse(path.read_text())
        literals = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        loggers = set(_loggers(tree))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS):
                continue
            if ast.unparse(node.func.value) not in loggers:
                continue
            yield _call(f"{path.relative_to(_SERVER.parent)}:{node.lineno}", node, node.func.attr, literals)


def _loggers(tree: ast.Module) -> Iterator[str]:
    """Return the names bound to a logger, and the expressions that create one in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"get_logger", "getLogger"}:
            yield ast.unparse(node)
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func).rpartition(".")[2] in {"get_logger", "getLogger", "bind", "new"}
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(target) for target in targets)


def _call(place: str, node: ast.Call, level: str, literals: dict[str, ast.Dict]) -> Call:
    fields: set[str] = set()
    for keyword in node.keywords:
        if keyword.arg is not None:
            fields.add(keyword.arg)
            continue
        mapping = literals[keyword.value.id] if isinstance(keyword.value, ast.Name) else keyword.value
        assert isinstance(mapping, ast.Dict), f"{place}: fields that can't be read from the source"
        fields |= {key.value for key in mapping.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    first = node.args[0] if node.args else None
    event = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return Call(place, level, event, frozenset(fields))
