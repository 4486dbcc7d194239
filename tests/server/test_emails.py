"""Email addresses: accepted ones, and their normalised form."""

from __future__ import annotations

import unicodedata

import pytest

from interlock.machine.errors import AccountError
from interlock.server.guard.emails import normalise_email


@pytest.mark.parametrize("email", ["a@b", "ADA@EXAMPLE.ORG", "\u00fcmit@example.org", "a@b@c", "x" * 248 + "@b.org"])
def test_an_email_address_has_a_rough_form(email: str) -> None:
    assert normalise_email(f" {email} ") == unicodedata.normalize("NFC", email).casefold()


@pytest.mark.parametrize("domain", ["example.org", "stra\u00dfe.example", "xn--strae-oqa.example"])
@pytest.mark.parametrize("dot", [".", "\u3002", "\uff0e", "\uff61"])
def test_a_domain_is_the_same_with_the_root_dot(domain: str, dot: str) -> None:
    assert normalise_email(f"ada@{domain}{dot}") == normalise_email(f"ada@{domain}")
    assert normalise_email(f"ada@{domain}..") != normalise_email(f"ada@{domain}"), "an empty label is none"


def test_a_local_network_name_is_the_same_with_the_root_dot() -> None:
    assert normalise_email("ada@stra\u00dfe.xn--a.") == normalise_email("ada@stra\u00dfe.xn--a")


@pytest.mark.parametrize(
    "email", ["a@.", "", "@", "a@", "@b", "nobody", "a b@c", "a\x00@b", "a\n@b", "a\u2028@b", "x" * 249 + "@b.org"]
)
def test_an_invalid_email_address_is_refused(email: str) -> None:
    with pytest.raises(AccountError, match="not an email address"):
        normalise_email(email)
