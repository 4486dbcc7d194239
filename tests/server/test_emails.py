"""Which ways to write an email address are the same account, and which are two."""

from __future__ import annotations

import unicodedata

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.guard.emails import fold_email
from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess

SAME = [
    ("ada@example.org", " ADA@Example.ORG\n"),
    ("ada@straße.example", "ada@xn--strae-oqa.example"),
    ("ada@STRASSE.example", "ada@strasse.example"),
    ("ada@bücher.example", "ada@BÜCHER.example"),
    ("ada@bücher.example", unicodedata.normalize("NFD", "ada@bücher.example")),
    ("ada@bücher.example", "ada@XN--BCHER-KVA.example"),
    ("ada@例え.example", "ada@例え。example"),
    ("ümit@example.org", unicodedata.normalize("NFD", "Ümit@example.org")),
    ("ada@ex_ample.local", "ADA@EX_AMPLE.local"),
    ("ada@βόλος.example", "ada@ΒΌΛΟς.example"),
]
DIFFERENT = [
    ("ada@straße.example", "ada@strasse.example"),
    ("straße@example.org", "strasse@example.org"),
    ("ada@βόλος.example", "ada@βόλοσ.example"),
    ("ada@ﬀ.example.org", "ada@ff.example.net"),
    ("eﬀ@example.org", "eff@example.org"),
    ("\u0131ada@example.org", "iada@example.org"),
    ("ada@xn--a.example", "ada@a.example"),
    ("a@b@example.org", "a@b.example.org"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_to_write_one_address_are_one(one: str, other: str) -> None:
    assert fold_email(one) == fold_email(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_addresses_that_different_people_may_have_are_two(one: str, other: str) -> None:
    assert fold_email(one) != fold_email(other)


@given(st.text(max_size=40) | st.from_regex(r"[^@]{1,10}@[^@]{1,20}", fullmatch=True))
def test_whatever_is_written_there_is_one_form_of_it(email: str) -> None:
    folded = fold_email(email)
    assert fold_email(folded) == folded


def test_two_domains_are_two_accounts_and_one_domain_is_one(server: ServerProcess) -> None:
    local = new_email().partition("@")[0]

    def register(domain: str) -> int:
        body = {"email": f"{local}@{domain}", "password": PASSWORD}
        return httpx.post(f"{server.url}/api/auth/register", json=body, timeout=60).status_code

    def log_in(domain: str) -> int:
        body = {"email": f"{local}@{domain}", "password": PASSWORD}
        return httpx.post(f"{server.url}/api/auth/login", json=body, timeout=60).status_code

    assert register("straße.example") == 201
    assert log_in("strasse.example") == 401
    assert register("strasse.example") == 201
    assert [register(domain) for domain in ("STRASSE.example", "xn--strae-oqa.example", "StraßE.example")] == [409] * 3
    assert [log_in(domain) for domain in ("STRASSE.example", "XN--strae-oqa.example", "StraßE.example")] == [200] * 3
