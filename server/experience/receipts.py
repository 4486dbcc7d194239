"""The header that gives the receipt of what a call recorded."""

from __future__ import annotations

from typing import Final

from interlock.machine.ledger import Receipt

RECEIPT_HEADER: Final = "Interlock-Receipt"


def receipt_header(receipt: Receipt | None) -> dict[str, str]:
    """The headers that give ``receipt``: none when nothing was recorded."""
    return {} if receipt is None else {RECEIPT_HEADER: str(receipt)}
