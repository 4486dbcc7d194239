"""Find the one node that a text matches, and replace it."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator


class EditError(Exception):
    """The edit can't be made: what it names is missing or not unique."""


def put(module: ast.Module, old: str, new: str | None) -> None:
    """Put ``new``, or nothing, in the place that ``old`` matches."""
    places = [
        (parse, *place) for parse in (_statements, _expressions, _keywords) for place in _places(module, parse(old))
    ]
    if len(places) != 1:
        raise EditError(f"matches {len(places)} times, not once: {old}")
    [(parse, parent, name, index, length)] = places
    held = getattr(parent, name)
    was = [held] if index is None else held[index : index + length]
    nodes = [] if new is None else _filled(parse(new), was)
    if index is not None:
        held[index : index + length] = nodes or ([ast.Pass()] if name == "body" and len(held) == length else [])
    elif len(nodes) == 1:
        setattr(parent, name, nodes[0])
    else:
        raise EditError(f"needs something in its place: {old}")


def _places(module: ast.Module, pattern: list[ast.AST]) -> Iterator[tuple[ast.AST, str, int | None, int]]:
    """Return parent, field, first index and length of each match of ``pattern``."""
    length = len(pattern)
    for parent in ast.walk(module) if pattern else ():
        for name, value in ast.iter_fields(parent):
            if isinstance(value, list):
                for index in range(len(value) - length + 1):
                    if _same(pattern, value[index : index + length]):
                        yield parent, name, index, length
            # An expression statement was found as a statement.
            elif length == 1 and not isinstance(parent, ast.Expr) and _same(pattern[0], value):
                yield parent, name, None, 1


def _filled(nodes: list[ast.AST], was: list[ast.AST]) -> list[ast.AST]:
    """Return ``nodes`` with ``was`` in place of their ellipsis."""

    class Fill(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | list[ast.AST]:
            if _is_anything(node):
                return was if len(was) != 1 else was[0]
            return self.generic_visit(node)

    return [
        each for node in nodes for got in [Fill().visit(node)] for each in (got if isinstance(got, list) else [got])
    ]


def _statements(text: str) -> list[ast.AST]:
    try:
        return list(ast.parse(textwrap.dedent(text)).body)
    except SyntaxError:
        return []


def _expressions(text: str) -> list[ast.AST]:
    try:
        return [expression(text)]
    except SyntaxError:
        return []


def _keywords(text: str) -> list[ast.AST]:
    try:
        call = expression(f"f({text})")
    except SyntaxError:
        return []
    return list(call.keywords) if isinstance(call, ast.Call) and not call.args else []


def expression(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _same(pattern: object, node: object) -> bool:
    """Return whether ``pattern`` matches ``node``."""
    if isinstance(pattern, list) and isinstance(node, list):
        if pattern and _is_anything(pattern[-1]):
            pattern, node = pattern[:-1], node[: len(pattern) - 1]
        return len(pattern) == len(node) and all(map(_same, pattern, node))
    if not isinstance(pattern, ast.AST) or isinstance(pattern, ast.expr_context):
        return pattern == node or isinstance(node, ast.expr_context)
    if _is_anything(pattern):
        return isinstance(node, ast.AST)
    # If a call's arguments end with an ellipsis, it covers keywords too.
    open_call = isinstance(pattern, ast.Call) and bool(pattern.args) and _is_anything(pattern.args[-1])
    return type(pattern) is type(node) and all(
        _same(value, getattr(node, name))
        for name, value in ast.iter_fields(pattern)
        if not (open_call and name == "keywords")
    )


def _is_anything(node: ast.AST) -> bool:
    """Return whether it is an ellipsis, even as a statement, or ``**...`` among keyword arguments."""
    match node:
        case ast.Expr(value=value) | ast.keyword(arg=None, value=value) | value:
            return isinstance(value, ast.Constant) and value.value is ...
