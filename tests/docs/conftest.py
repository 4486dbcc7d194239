"""Fixtures: the documentation, built once as ``make docs`` builds it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import DOCS


class Page(HTMLParser):
    """A built page: its references, its anchors, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.styles: list[str] = []
        self._texts: list[str] = []
        self._in_style = False
        self.feed(path.read_text())

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        if tag == "br":
            self._texts.append(" ")
        if "id" in values:
            self.anchors.add(values["id"])
        if "style" in values:
            self.styles.append(values["style"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in {"search", "index", "next", "prev"}:
            self.loads.append(values["href"])
        self.loads += [values[name] for name in ("src", "srcset", "poster", "data") if name in values]

    def handle_data(self, data: str) -> None:
        (self.styles if self._in_style else self._texts).append(data)

    def handle_endtag(self, _tag: str) -> None:
        self._in_style = False


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built pages. The first worker to ask builds them for all. The build must give no warning."""
    own = tmp_path_factory.getbasetemp()
    out = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            _build(out.with_suffix(".draft")).rename(out)
    return out / "html"


def _build(out: Path) -> Path:
    command = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *command], capture_output=True, text=True, timeout=600, check=False
    )
    assert build.returncode == 0, build.stderr
    assert build.stderr == ""
    return out


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    """Return every built page by its path."""
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}
