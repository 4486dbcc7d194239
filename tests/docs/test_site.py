"""The built pages: complete, intact, and readable without a network."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from interlock.machine.closing import CLOSE_CODES
from interlock.machine.session.messages import ClientMessage, ServerMessage
from interlock.server.app import build_app
from interlock.server.cli.main import main
from interlock.server.experience.problem_kinds import problem_kinds
from interlock.server.experience.problems import TYPE_PREFIX
from interlock.server.settings import Settings
from interlock.server.settings_loading import setting_rows
from interlock.spec.export import LIFECYCLES
from interlock.spec.lifecycles import SESSION
from tests.docs.conftest import Page
from tests.docs.pages import DOCS, ROOT

_METHODS = {"get", "post", "put", "patch", "delete"}
_ADDRESS = re.compile(r"https?:|//")
_REPOSITORY_PATH = re.compile(r"`((?:spec|machine|server|interlock|tests|docs)/[\w./-]+\.\w+)(?:::(\w+))?`")
_MARKDOWN_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture
def settings_page(pages: dict[str, Page]) -> str:
    return pages["reference/settings.html"].text


def test_every_setting_is_documented(settings_page: str) -> None:
    for row in setting_rows():
        assert {row.name, row.flag, row.variable} <= set(settings_page.replace(",", " ").split()), row.name
        assert row.description.replace("`", "") in settings_page


def test_every_close_code_is_documented(pages: dict[str, Page]) -> None:
    text = pages["reference/close-codes.html"].text
    guide = pages["how-to/write-a-client.html"].text
    for row in CLOSE_CODES.values():
        assert f"{row.code} {row.reason} {row.next.value} {row.advice}" in text
        assert str(row.code) in guide, f"the recovery table misses {row.code}"


def test_every_problem_is_documented(pages: dict[str, Page]) -> None:
    page = pages["reference/problems.html"]
    guide = pages["how-to/write-a-client.html"].text
    for kind in problem_kinds():
        assert kind.name in page.anchors, "the last part of the URN is the anchor"
        assert TYPE_PREFIX + kind.name in page.text
        assert f"{kind.status} {HTTPStatus(kind.status).phrase}. {kind.title}." in page.text
        assert kind.name in guide, f"the recovery table misses {kind.name}"


# Litestar warns of parameters in its older style, which does not concern the pages.
@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_every_endpoint_is_documented(pages: dict[str, Page]) -> None:
    text = pages["reference/http.html"].text
    calls = [
        f"{method.upper()} {path}"
        for path, operations in build_app(Settings()).openapi_schema.to_schema()["paths"].items()
        for method in operations
        if method in _METHODS
    ]
    assert len(calls) > 10
    for call in calls:
        assert text.count(call) >= 2, f"{call}: in the table and in a section"


def test_every_websocket_message_is_documented(pages: dict[str, Page]) -> None:
    page = pages["reference/websocket.html"]
    for message in (*ServerMessage.__args__, *ClientMessage.__args__):
        assert message.__struct_config__.tag in page.anchors
        for field in message.__struct_fields__:
            assert field in page.text


def test_every_command_and_declared_name_is_documented(pages: dict[str, Page]) -> None:
    commands = pages["reference/command-line.html"].text
    for name in main.list_commands(click.Context(main)):
        assert f"interlock {name}" in commands
    for lifecycle in LIFECYCLES:
        page = "lifecycle" if lifecycle is SESSION else f"{lifecycle.name}-lifecycle"
        text = pages[f"reference/{page}.html"].text
        declared = [(row.name, row.description) for row in lifecycle.states]
        declared += [(row.name, row.description) for row in (*lifecycle.events, *lifecycle.guards)]
        for name, description in declared:
            assert name in text
            assert description in text


def test_pages_load_nothing_from_other_hosts(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert not [load for load in page.loads if _ADDRESS.match(load)], name
        assert not [style for style in page.styles if re.search(r"url\(|@import", style)], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", sheet.read_text()), sheet


def test_pages_in_the_repository_say_that_they_are_incomplete_and_built_pages_do_not(pages: dict[str, Page]) -> None:
    built, note = (
        DOCS / "_build",
        "This page is built by `make docs`: here it lacks the parts that are read from the code.",
    )
    sources = {path: path.read_text() for path in DOCS.rglob("*.md") if built not in path.parents}
    incomplete = {path for path, text in sources.items() if "<!-- generate: " in text}
    assert incomplete
    assert {path for path, text in sources.items() if f"\n\n{note}\n\n" in text} == incomplete
    assert [name for name, page in pages.items() if note.replace("`", "") in page.text] == []


def test_every_link_has_a_target(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        for link in page.links:
            address, _, anchor = link.partition("#")
            if _ADDRESS.match(address) or address.startswith("mailto:"):
                continue
            target = (site / name).parent.joinpath(unquote(address)).resolve() if address else site / name
            built = pages.get(str(target.relative_to(site.resolve()))) if address else page
            if not target.is_file() or (anchor and built is not None and unquote(anchor) not in built.anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def _texts() -> list[Path]:
    built = DOCS / "_build"
    own = [path for path in DOCS.rglob("*.md") if built not in path.parents]
    return [*own, *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY"))]


@pytest.mark.parametrize("text", _texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_named_in_texts_exists(text: Path) -> None:
    content = text.read_text()
    for path, test in _REPOSITORY_PATH.findall(content):
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"
    for link in _MARKDOWN_LINK.findall(content):
        assert (text.parent / link).exists(), link
    assert str(ROOT) not in content
