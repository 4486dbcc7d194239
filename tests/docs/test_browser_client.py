"""The browser app of the guide in two tabs of a real Chromium, and the reference page's names."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks, captioned
from tests.support.browser import Tab, chromium
from tests.support.client import PASSWORD, new_email
from tests.support.log import histories
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess
from tests.support.typescript import CLIENT, compiled

_GUIDE = "how-to/use-the-browser-client.md"
_REFERENCE = "reference/browser-client.md"
_LINES = 30
_CONTEXT = """
import type { Credentials, Session, Visitor } from "./interlock.js";
declare const visitor: Visitor, account: Credentials, signal: AbortSignal, question: string;
declare function askForPassword(): Promise<Credentials>;
declare function say(text: string): void;
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def _files_of(folder: Path) -> Iterator[str]:
    """Serve ``folder`` as ``python3 -m http.server`` does, and yield the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


async def _shows(tab: Tab, selector: str, text: str) -> None:
    await eventually(
        partial(tab.run, "return document.querySelector(selector)?.textContent === text;", selector=selector, text=text)
    )


@pytest.mark.slow
@scenario(300)
async def test_the_app_of_the_guide_in_two_tabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page"
    page.mkdir()
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    command, _, serves = captioned(_GUIDE, "Start both").partition("&\n")
    assert serves == "python3 -m http.server 8000\n"
    *realms, allowed = re.findall(r"--\w+ (\S+)", command)
    assert allowed == "http://localhost:8000"
    script = captioned(_GUIDE, "chat.js")
    assert len(script.splitlines()) <= _LINES
    (page / "chat.html").write_text(captioned(_GUIDE, "chat.html"))
    with _files_of(page) as origin:
        server = ServerProcess(tmp_path / "data", {"realm": ",".join(realms), "origins": origin})
        server.start()
        try:
            url = server.url.replace("127.0.0.1", "localhost")
            (page / "chat.js").write_text(script.replace("http://localhost:8700", url))
            async with chromium(tmp_path) as browser:
                await _chat(await browser.tab(), await browser.tab(), f"{origin}/chat.html")
            assert (
                len([records for records in histories(server.data).values() if records[-1]["event"] == "revoke"]) == 1
            )
        finally:
            server.stop()


async def _chat(first: Tab, second: Tab, url: str) -> None:
    for tab in (first, second):
        await tab.go(url)
        await eventually(partial(tab.run, "return document.querySelector('#login').onsubmit !== null;"))
    fill = (
        "return Object.entries(values).forEach(([name, value]) => document.getElementsByName(name)[0].value = value);"
    )
    press = "return document.querySelector(selector).click();"
    await first.run(fill, values={"email": new_email(), "password": PASSWORD})
    await first.run(press, selector="[value=register]")
    for tab in (first, second):
        await eventually(partial(tab.run, "return !document.querySelector('main').hidden;"))
    await second.run(fill, values={"question": "what?"})
    await second.run(press, selector="#ask button")
    await _shows(second, "li", "You asked: what? I know 0 notes about it. ")
    await second.run(press, selector="#others")
    await _shows(second, "#note", "0 ended")
    await first.run(press, selector="#logout")
    for tab in (first, second):
        await _shows(tab, "#note", "logged out: logout")
        assert await tab.run("return [document.querySelector('main').hidden, document.querySelector('li')];") == [
            True,
            None,
        ]


def test_the_other_programs_of_the_guide_type_check(tmp_path: Path) -> None:
    parts = ["Waits", "Problems", "Own back end"]
    body = "\n".join(f"{{\n{captioned(_GUIDE, part)}}}" for part in parts[:1])
    rest = "\n".join(
        f"async function part{n}(session: Session) {{\n{captioned(_GUIDE, part)}}}" for n, part in enumerate(parts[1:])
    )
    shown = {block.caption for block in blocks(_GUIDE)}
    assert shown == {*parts, "chat.html", "chat.js", "Start both"}, "each block of the page is tried"
    assert compiled(tmp_path, {"parts": f"{_CONTEXT}{body}\n{rest}\nvoid [part0, part1];"}) == []


def test_the_reference_names_everything_that_the_types_have() -> None:
    types, page = (CLIENT / "interlock.d.ts").read_text(), (DOCS / _REFERENCE).read_text()
    for name in ("Visitor", "Session", "Socket", "Run"):
        declared = re.search(rf"export interface {name}\b[^{{]*{{\n(.*?)\n}}", types, re.DOTALL)
        section = re.search(rf"^## {name}\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
        assert declared is not None
        assert section is not None
        members = set(re.findall(r"^  (?:readonly )?(\w+)[<(:]", declared[1], re.MULTILINE))
        assert members == set(re.findall(r"`(\w+)(?:\([^`|]*\))?`(?=[^|]*\| )", section[1])), name
    for kind in ("Visitor", "Session", "Socket"):
        events = re.search(rf"export interface {kind}Events {{\n(.*?)\n}}", types, re.DOTALL)
        assert events is not None
        assert set(re.findall(r"^  (\w+):", events[1], re.MULTILINE)) == set(
            re.findall(rf"\| `{kind}` \| `(\w+)`", page)
        )
