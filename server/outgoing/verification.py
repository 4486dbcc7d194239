"""Verification of a Standard Webhook that another program sends to this server."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from interlock.machine.errors import WebhookSignatureInvalid

TOLERANCE_S: Final = 300
"""How far the time of a signature may be from the clock. It limits how long a recorded request can be replayed."""

_MAX_SIGNATURES: Final = 16
_MAX_DIGITS: Final = 12
_MS_PER_S: Final = 1000


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
