"""The header that gives the receipt of what a call recorded."""

from __future__ import annotations

from typing import Final

from litestar.datastructures import ResponseHeader

from interlock.machine.ledger import Receipt

RECEIPT_HEADER: Final = "Interlock-Receipt"

RECEIPT_HEADERS: Final = [
    ResponseHeader(
        name=RECEIPT_HEADER,
        description=(
            "Position and digest of the last record this call wrote, as `position.digest`; missing when it wrote none."
        ),
        documentation_only=True,
    )
]
"""For the OpenAPI of the calls that may record something."""


def receipt_header(receipt: Receipt | None) -> dict[str, str]:
    """The headers that give ``receipt``: none when nothing was recorded."""
    return {} if receipt is None else {RECEIPT_HEADER: str(receipt)}
