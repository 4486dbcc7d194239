"""Signatures of webhooks that reach this server, as other implementations of Standard Webhooks make them."""

from __future__ import annotations

import base64
import hmac

import pytest

from interlock.machine.errors import WebhookSignatureInvalid
from interlock.server.outgoing.signatures import TOLERANCE_S, new_signing_secret, signed_headers, verified_id

# The example that implementations of Standard Webhooks share in their tests.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT_S = 1614265330
BODY = b'{"test": 2432232314}'
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(AT_S),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def verify(headers: dict[str, str], *secrets: str, body: bytes = BODY, at_s: int = AT_S) -> str:
    return verified_id(secrets, headers, body, at_s * 1000 + 999)


def test_a_signature_of_other_implementations_is_valid() -> None:
    assert verify(HEADERS, SECRET) == HEADERS["webhook-id"]


def test_while_secrets_rotate_either_side_may_be_first() -> None:
    old, new = new_signing_secret(), new_signing_secret()
    both = signed_headers([new, old], "m", BODY, AT_S * 1000)
    assert [verify(both, each) for each in (old, new)] == ["m", "m"]
    assert verify(signed_headers([old], "m", BODY, AT_S * 1000), new, old) == "m"


@pytest.mark.parametrize("shift_s", [-TOLERANCE_S, TOLERANCE_S])
def test_a_signature_is_good_for_five_minutes(shift_s: int) -> None:
    verify(HEADERS, SECRET, at_s=AT_S + shift_s)
    with pytest.raises(WebhookSignatureInvalid, match="more than 300 seconds"):
        verify(HEADERS, SECRET, at_s=AT_S + shift_s + (1 if shift_s > 0 else -1))


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(AT_S + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v1a,")},
        {"webhook-signature": HEADERS["webhook-signature"].removeprefix("v1,")},
        {"webhook-signature": "v1,\udcff\u00e4"},
        {"webhook-signature": "v1,v1,v1 , ,, x"},
        {"webhook-id": "\ud800"},
    ],
)
def test_a_changed_header_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(WebhookSignatureInvalid):
        verify({**HEADERS, **changed}, SECRET)


@pytest.mark.parametrize("name", HEADERS)
def test_a_missing_header_is_refused(name: str) -> None:
    with pytest.raises(WebhookSignatureInvalid):
        verify({each: value for each, value in HEADERS.items() if each != name}, SECRET)


def test_another_body_another_secret_and_no_secret_are_refused() -> None:
    for secrets, body in [([SECRET], BODY + b" "), ([new_signing_secret()], BODY), ([], BODY), ([SECRET], b"\xff")]:
        with pytest.raises(WebhookSignatureInvalid):
            verify(HEADERS, *secrets, body=body)


@pytest.mark.parametrize("at", ["", "-5", "1e3", "+5", " 5", "\u0661", "9" * 12, "9" * 5000])
def test_a_signed_time_that_is_no_time_is_refused(at: str) -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.digest(key, f"m.{at}.".encode() + BODY, "sha256")).decode()
    with pytest.raises(WebhookSignatureInvalid):
        verify({"webhook-id": "m", "webhook-timestamp": at, "webhook-signature": f"v1,{mac}"}, SECRET)
