"""The login page, without a browser: where it leads, and where it never leads."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from interlock.server.experience.pages.next_page import asked_for, next_page
from tests.support.server import running_server

HOST = "app.example.org"
LISTED = ("https://shop.example.org", "http://[::1]:3000")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        running_server(tmp_path_factory.mktemp("login") / "data", origins=",".join(LISTED)) as server,
        httpx.Client(base_url=server.url, headers={"host": HOST}, timeout=30) as client,
    ):
        yield client


def leads_to(http: httpx.Client, query: str) -> str:
    """Return where the page leads that is asked for with ``query``."""
    answer = http.get(f"/login?{query}" if query else "/login")
    assert answer.status_code == 200, answer.text
    (found,) = set(re.findall(r'data-next="([^"]*)"', answer.text))
    return html.unescape(found)


@pytest.mark.parametrize(
    ("query", "there"),
    [
        ("", "/"),
        ("next=/app", "/app"),
        ("next=/app?a=1&b=2", "/app?a=1&b=2"),
        ("next=/a%20b/%2F%2Fc?next=/x", "/a%20b/%2F%2Fc?next=/x"),
        ("next=%2Fapp%3Fa%3D1%26b%3D2", "/app?a=1&b=2"),
        ("next=https://app.example.org/app?x", "/app?x"),
        ("next=https%3A%2F%2Fapp.example.org%2Fapp", "/app"),
        ("next=https://APP.example.org", "/"),
        ("next=https://shop.example.org/cart?x=1", "https://shop.example.org/cart?x=1"),
        ("next=http://[::1]:3000/", "http://[::1]:3000/"),
        ("next=/app?to=https://evil.example/", "/app?to=https://evil.example/"),
    ],
)
def test_the_page_leads_to_its_own_and_to_listed_origins(http: httpx.Client, query: str, there: str) -> None:
    assert leads_to(http, query) == there


FOREIGN = [
    "//evil.example",
    "///evil.example",
    "////evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/\x0b/evil.example",
    "/\u2028/evil.example",
    "https://evil.example/",
    "HTTPS://evil.example/",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "https://app.example.org@evil.example/",
    "https://app.example.org:443@evil.example/",
    "https://app.example.org\\@evil.example/",
    "https://app.example.org.evil.example/",
    "https://app.example.org//evil.example",
    "https://shop.example.org@evil.example/",
    "https://shop.example.org.evil.example/",
    "https://shop.example.org:444/",
    "http://shop.example.org/",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "blob:https://app.example.org/x",
    "vbscript:x",
    "evil.example",
    "app",
    "?x",
    "",
    "/" + "x" * 2048,
]


@pytest.mark.parametrize("wanted", FOREIGN, ids=repr)
def test_the_page_leads_to_no_other_place(wanted: str) -> None:
    for value in (quote(wanted, safe=""), quote(wanted, safe="/:@\\"), wanted):
        there = next_page(asked_for(f"next={value}".encode()) or "", HOST, LISTED)
        # A character that stays encoded is one of the path.
        assert there == "/" or (there == value and re.match("/%[0-9A-F]{2}", there)), value


def test_a_name_that_a_page_shows_is_no_markup(http: httpx.Client) -> None:
    answer = http.get("/login", params={"next": '/"><script>alert(1)</script>'})
    assert "<script>alert" not in answer.text
    assert http.get("/login?x=1&next=/app").status_code == 400, "only a next that comes first can be read to its end"


def test_a_form_that_is_sent_without_scripts_puts_nothing_into_the_url(http: httpx.Client) -> None:
    text = http.get("/login").text
    assert len(re.findall("<form", text)) == len(re.findall('<form id="[a-z]+" method="post" hidden>', text)) == 3
    assert "<noscript>" in text
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://", text)


def test_every_file_that_the_login_page_loads_is_served(http: httpx.Client) -> None:
    links = set(re.findall(r'(?:href|src)="(/static/[^"]*)"', http.get("/login").text))
    assert "/static/login.js" in links
    assert {link: status for link in links if (status := http.get(link).status_code) != 200} == {}


def test_the_login_page_is_off_by_a_setting(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", login_page=False) as server:
        assert httpx.get(f"{server.url}/login").status_code == 404
