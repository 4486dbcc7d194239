"""Signatures of Standard Webhooks 1.0.0: an HMAC-SHA256 (``v1``) over id, timestamp and body, with each current secret.

The server signs its messages and calls, and verifies what remote realms call back with.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from msgspec import Meta
from standardwebhooks import Webhook

from interlock.machine.errors import WebhookSignatureInvalid

SigningSecret: TypeAlias = Annotated[str, Meta(pattern=r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}\Z")]

TOLERANCE_S: Final = 300
"""How far the time of a signature may be from the clock. It limits how long a recorded request can be replayed."""

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
_MAX_SIGNATURES: Final = 16
_MAX_DIGITS: Final = 12
_MS_PER_S: Final = 1000


def new_signing_secret() -> str:
    """Return a new secret, ``whsec_`` and 256 random bits in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(signing_secrets: Sequence[str], message_id: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Return the headers of a message sent at ``now_ms``: id, timestamp, and one signature for each of ``signing_secrets``."""
    at_s = now_ms // _MS_PER_S
    at = datetime.fromtimestamp(at_s, UTC)
    text = body.decode()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(Webhook(each).sign(message_id, at, text) for each in signing_secrets),
    }


def verified_id(signing_secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now_ms: int) -> str:
    """Return the ``webhook-id`` of a request that is signed with one of ``signing_secrets`` and at most 5 minutes old.

    The library's own check asks the machine's clock, and fails in other ways on malformed headers.

    Raises:
        WebhookSignatureInvalid: a header is missing or malformed, no signature is valid, or the time is too far off.
    """
    message_id, at, signatures = (headers.get(f"webhook-{each}", "") for each in ("id", "timestamp", "signature"))
    presented = [each.encode("utf-8", "replace") for each in signatures.split(" ")[:_MAX_SIGNATURES]]
    if not message_id or not (at.isascii() and at.isdigit() and len(at) <= _MAX_DIGITS):
        raise WebhookSignatureInvalid("webhook-id is missing, or webhook-timestamp is not in seconds")
    if abs(now_ms // _MS_PER_S - int(at)) > TOLERANCE_S:
        raise WebhookSignatureInvalid(f"webhook-timestamp is more than {TOLERANCE_S} seconds from the server's time")
    try:
        text, time = body.decode(), datetime.fromtimestamp(int(at), UTC)
        expected = [Webhook(each).sign(message_id, time, text).encode() for each in signing_secrets]
    except UnicodeError:
        expected = []
    # Each pair is compared, so that the time does not tell which secret is in use.
    if not sum(hmac.compare_digest(ours, theirs) for ours in expected for theirs in presented):
        raise WebhookSignatureInvalid(
            "no signature in webhook-signature is valid for webhook-id, webhook-timestamp and body"
        )
    return message_id
