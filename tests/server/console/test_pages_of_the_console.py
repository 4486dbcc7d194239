"""The console's pages: each list, each instance, and as they were."""

from __future__ import annotations

import re

import pytest

from tests.support.client import hello, logged_in
from tests.support.operators import ACT, LOOK, signed_in
from tests.support.running import scenario
from tests.support.server import ServerProcess

PAGES = ("", "/sessions", "/accounts", "/executions", "/log", "/webhooks")


@pytest.mark.parametrize("page", PAGES)
@scenario()
async def test_each_page_is_shown_to_who_may_look(server: ServerProcess, secret: str, page: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator:
        answer = await operator.get(f"/console{page}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(
            r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)(?!127)", answer.text
        )


@scenario()
async def test_a_sessions_page_tells_it_as_it_is_and_as_it_was(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, ACT) as operator, await logged_in(server.url) as client:
        async with client.connect() as socket:
            await hello(socket)
            now = (await operator.get(f"/console/sessions/{client.session_id}")).text
        assert "What may happen next" in now
        first = min(map(int, re.findall(r'href="\?at=(\d+)"', now)))
        then = (await operator.get(f"/console/sessions/{client.session_id}", at=first)).text
        assert 'class="badge state-connected"' in now
        assert 'class="badge state-created"' in then
