"""Operators of the console: accounts in its groups, and what a browser of theirs sends."""

from __future__ import annotations

from typing import Any, Self

import httpx

from tests.support.admin import Admin, subject_of
from tests.support.client import PASSWORD, Client, logged_in

LOOK, ACT = "console-look", "console-act"
SETTINGS = {"console_look": LOOK, "console_act": ACT}

COOKIE = "__Host-interlock-console"
OWN_PAGE = {
    "accept": "text/html",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}
MODULE = {
    "accept": "application/json",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "cors",
    "sec-fetch-dest": "empty",
}


async def in_groups(url: str, secret: str, *groups: str) -> tuple[Client, str]:
    """Return a client logged in to a new account that is in ``groups``, and the account's id."""
    client = await logged_in(url)
    subject = await subject_of(client)
    async with Admin(url, secret) as admin:
        answer = await admin.http.put(f"/accounts/{subject}/groups", json={"groups": list(groups)})
        assert answer.status_code == 200, answer.text
    return client, subject


class Operator:
    """A browser at the console. It sends what Chromium sends, and keeps the console's cookie."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=60)
        self.cookie = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    @property
    def shown(self) -> dict[str, str]:
        """The Cookie header."""
        return {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}

    async def get(self, path: str, headers: dict[str, str] = OWN_PAGE, **query: Any) -> httpx.Response:
        return await self.http.get(path, params=query or None, headers=headers | self.shown)

    async def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """Send a form."""
        return await self.http.post(path, data=form, headers=(headers or OWN_PAGE) | self.shown)

    async def sign_in(self, email: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        """Send the form of the login page, and keep the cookie of the answer."""
        form = {"email": email, "password": password, **more}
        answer = await self.http.post("/console/login", data=form, headers=OWN_PAGE | self.shown)
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            if name == COOKIE:
                self.cookie = value.strip('"')
        return answer


async def signed_in(url: str, secret: str, *groups: str) -> Operator:
    """Return the browser of a new operator in ``groups``."""
    client, _ = await in_groups(url, secret, *groups)
    operator = Operator(url)
    answer = await operator.sign_in(client.email)
    assert answer.status_code == 303, answer.text
    await client.http.aclose()
    return operator
