"""Names of groups: one rule for administrators, the identity provider and the proxy header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from interlock.server.clock import SystemClock
from interlock.server.guard.oidc.id_tokens import IdTokens
from interlock.server.settings import Settings
from tests.server.test_exchange_attacks import good, signed
from tests.support.admin import admin_token
from tests.support.asynchronous import asynchronous
from tests.support.hostile import AUDIENCE, Hostile
from tests.support.server import ServerProcess, running_server

GOOD: Final[dict[str, list[str]]] = {
    "none": [],
    "several": ["on-call", "staff"],
    "blanks inside": ["on call", "the night  shift"],
    "what paths, addresses and URNs are made of": ["/staff/eu-west", "ops@example.org", "urn:example:role#1"],
    "everything that may stand in one": ["!#$%&'()*+-./0123456789:;<=>?@AZ[\\]^_`az{|}~"],
    "one name as long as all may be": ["x" * 2048],
    "as many as there may be": [f"{number:03}" for number in range(512)],
}
BAD: Final[dict[str, list[Any]]] = {
    "no name": [""],
    "a blank before": [" admin"],
    "a blank behind": ["admin ", "staff"],
    "a blank alone": [" "],
    "a comma": ["staff,admin"],
    "a quotation mark": ['a"b'],
    "a line end behind": ["admin\n"],
    "a line end inside": ["staff\r\nremote-user: root"],
    "a tab": ["on\tcall"],
    "DEL": ["a\x7f"],
    "a letter beyond ASCII": ["bücher"],
    "a number": [7],
    "nothing at all": [None],
    "a list": [["staff"]],
    "one name too long": ["x" * 2049],
    "many that are too long together": [f"{number:03}" for number in range(513)],
}


@pytest.fixture(scope="module")
def server(provider: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("groups") / "data"
    with running_server(folder, oidc_issuer=provider.issuer, oidc_audiences=AUDIENCE) as process:
        yield process


@pytest.fixture(scope="module")
def administrator(server: ServerProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {admin_token(server.data)}"}
    with httpx.Client(base_url=f"{server.url}/api/admin", headers=headers, timeout=60) as http:
        yield http


class Person:
    """A user whom the provider knows, and their session."""

    def __init__(self, server: ServerProcess, provider: Hostile, name: str) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=60)
        self.provider = provider
        self.name = name

    def arrive(self, groups: list[Any]) -> httpx.Response:
        """Exchange a new ID token with these groups, and return the answer."""
        token = self.provider.token(sub=self.name, groups=groups)
        answer = self.http.post("/api/auth/exchange", json={"id_token": token})
        if answer.status_code == 200:
            self.http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer

    def subject(self) -> str:
        return str(self.http.get("/api/session").raise_for_status().json()["subject"])

    def told(self) -> httpx.Response:
        """Return the groups that a proxy receives."""
        return self.http.get("/api/forward-auth").raise_for_status()


@pytest.fixture
def person(server: ServerProcess, provider: Hostile, request: pytest.FixtureRequest) -> Iterator[Person]:
    somebody = Person(server, provider, str(abs(hash(request.node.name))))
    with somebody.http:
        yield somebody


@pytest.mark.parametrize("groups", GOOD.values(), ids=GOOD)
def test_group_names_reach_the_application_unchanged(
    administrator: httpx.Client, person: Person, groups: list[str]
) -> None:
    person.arrive(groups).raise_for_status()
    assert person.told().headers["remote-groups"] == ",".join(sorted(groups)), "as the provider names them"
    path = f"/accounts/{person.subject()}/groups"
    administrator.put(path, json={"groups": ["another"]}).raise_for_status()
    answer = administrator.put(path, json={"groups": [*groups, *groups]})
    assert answer.raise_for_status().json()["groups"] == sorted(groups)
    assert person.told().headers["remote-groups"] == ",".join(sorted(groups)), "as an administrator names them"


@pytest.mark.parametrize("groups", BAD.values(), ids=BAD)
def test_group_names_that_would_be_changed_on_the_way_are_refused(
    administrator: httpx.Client, person: Person, groups: list[Any]
) -> None:
    """No group is left out instead, because the application may deny access by it."""
    person.arrive(["staff"]).raise_for_status()
    refused = person.arrive(groups)
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:interlock:problem:credential-invalid")
    assert "groups" in refused.json()["detail"]
    path = f"/accounts/{person.subject()}/groups"
    refused = administrator.put(path, json={"groups": groups})
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:interlock:problem:bad-request")
    assert administrator.get(path.removesuffix("/groups")).json()["groups"] == ["staff"]
    assert person.told().headers["remote-groups"] == "staff"


@pytest.mark.parametrize("groups", [GOOD["one name as long as all may be"], GOOD["as many as there may be"]])
def test_the_maximum_of_groups_fits_into_a_proxys_buffer(person: Person, groups: list[str]) -> None:
    """nginx reads a response head into 4 KiB by default, and answers 500 if it is longer."""
    person.arrive(groups).raise_for_status()
    answer = person.told()
    head = b"".join(b"%b: %b\r\n" % header for header in answer.headers.raw)
    assert len(answer.headers["remote-groups"]) >= 2000
    assert len(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n") < 4096 - 512, "with something to spare"


@pytest.mark.parametrize(("claim", "groups"), [("groups", ("a", "b")), ("roles", ("c",)), ("nothing", ()), ("", None)])
@asynchronous
async def test_groups_come_from_the_configured_claim(
    provider: Hostile, claim: str, groups: tuple[str, ...] | None
) -> None:
    settings = Settings(oidc_issuer=provider.issuer, oidc_audiences=(AUDIENCE,), oidc_groups_claim=claim)
    tokens = IdTokens(settings, SystemClock())
    identity = await tokens.check(signed(provider, good(provider, groups=["b", "a", "b"], roles=["c"])), None)
    assert (identity.issuer, identity.groups) == (provider.issuer, groups)
    await tokens.close()
