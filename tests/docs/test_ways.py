"""The call lists on the page on architecture match what requests call."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.source import ROOT
from tests.support.ways import Call, record_ways

Step = tuple[str, str]

_PLANES = {
    "server/experience": 0,
    "server/runtime": 1,
    "server/guard": 1,
    "server/surface": 2,
    "machine": 3,
}
_BEGIN_ANEW = {
    ("server/runtime/feed.py", "Feed._take"),
    ("server/experience/sockets/socket.py", "Socket.observe"),
    ("server/runtime/executions/executions.py", "Executions._accept_in_turn"),
    ("server/runtime/executions/run.py", "Run.drive"),
}
"""Callers are not tracked from here: the log's answer, the registry's notification, and tasks of their own."""


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Call]]:
    return asyncio.run(record_ways(tmp_path_factory.mktemp("ways")))


def listed() -> dict[str, list[Step]]:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    _, _, part = page.partition("## Five requests, call by call")
    sections = re.findall(r"^### (.+?)$(.*?)(?=^##|\Z)", part.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    return {name: re.findall(r"^\d+\. `(.+?)`, `(.+?)`", text, re.MULTILINE) for name, text in sections}


def test_each_documented_call_list_has_at_most_twelve_calls(ways: dict[str, list[Call]]) -> None:
    assert listed().keys() == ways.keys()
    assert all(1 < len(steps) <= 12 for steps in listed().values())


@pytest.mark.parametrize("name", listed())
def test_calls_happen_in_the_documented_order(name: str, ways: dict[str, list[Call]]) -> None:
    made = iter([(call.file, call.name) for call in ways[name]])
    assert [step for step in listed()[name] if step not in made] == []


@pytest.mark.parametrize("name", listed())
def test_each_documented_call_comes_from_an_earlier_one_and_goes_down(name: str, ways: dict[str, list[Call]]) -> None:
    first, *others = listed()[name]
    above, made = [first], iter(ways[name])
    for step in others:
        call = next(each for each in made if (each.file, each.name) == step)
        if step not in _BEGIN_ANEW:
            caller = next((each for each in call.within if each in above), None)
            assert caller is not None, step
            assert _plane(caller) <= _plane(step), (caller, step)
        above.append(step)


def _plane(step: Step) -> int:
    (plane,) = [rank for folder, rank in _PLANES.items() if step[0].startswith(f"{folder}/")]
    return plane
