"""Pages for people: what their documents may load, and how their files are served."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server: ServerProcess
    with (
        running_server(tmp_path_factory.mktemp("pages") / "data") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def test_a_page_may_load_from_this_server_alone_and_nothing_inline(http: httpx.Client) -> None:
    answer = http.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert answer.status_code == 200
    assert answer.headers.get_list("content-security-policy") == [answer.headers["content-security-policy"]]
    assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
    assert policy.pop("img-src") == "'self' data:"
    assert set(policy.values()) == {"'self'"}
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://", answer.text)


def test_every_link_of_the_front_page_leads_somewhere(http: httpx.Client) -> None:
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', http.get("/").text))
    assert {"/schema", "/static/pages.css"} <= links
    assert {link: status for link in links if (status := http.get(link).status_code) != 200} == {}


def test_a_file_is_sent_again_only_if_it_has_changed(http: httpx.Client) -> None:
    first = http.get("/static/pages.css")
    again = http.get("/static/pages.css", headers={"if-none-match": f'W/"other", {first.headers["etag"]}'})
    other = http.get("/static/pages.css", headers={"if-none-match": '"other"'})
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert (other.status_code, other.content) == (200, first.content)


def test_a_file_is_compressed_for_those_who_take_it(http: httpx.Client) -> None:
    plain = http.get("/static/pages.css", headers={"accept-encoding": "identity"})
    packed = http.get("/static/pages.css", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    for refusing in ("gzip;q=0", "br, gzip; q=0.0", "deflate"):
        assert "content-encoding" not in http.get("/static/pages.css", headers={"accept-encoding": refusing}).headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content)


def test_no_file_outside_of_the_folder_is_served(http: httpx.Client) -> None:
    for path in ("/static/", "/static/../pages/front.py", "/static/%2e%2e/front.py", "/static/front.py"):
        assert http.get(path).status_code == 404
