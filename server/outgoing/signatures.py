"""Signatures of Standard Webhooks 1.0.0: an HMAC-SHA256 (``v1``) over id, timestamp and body, with each current secret."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
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
