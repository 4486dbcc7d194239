"""The marks of tests, read from their source: ``@pytest.mark.checks(…)``, ``@pytest.mark.asvs(…)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.source import modules


def marked(mark: str) -> Iterator[tuple[str, str]]:
    """Yield (argument, place) for each argument of ``pytest.mark.<mark>(…)`` on a test.

    A place is ``file::test`` or ``file::Class::test``. Tests are functions and methods, and what a file assigns to a name
    (Hypothesis' state machines).
    """
    for file, tree in modules("tests"):
        for place, nodes in _tests(tree.body):
            yield from ((argument, f"{file}::{place}") for argument in _arguments(mark, nodes))


def _tests(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.expr]]]:
    """Yield name and decorators of each test below."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
                yield name, node.decorator_list
            case ast.ClassDef(name=name):
                yield from ((f"{name}::{inner}", nodes) for inner, nodes in _tests(node.body))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)):
                yield name, [func]


def _arguments(mark: str, nodes: list[ast.expr]) -> list[str]:
    return [
        str(argument.value)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{mark}"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
