"""A receipt as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import ReceiptMalformed
from interlock.machine.ledger import GENESIS, Receipt, parse
from interlock.machine.machines import MACHINES
from tests.machine.samples import CREATE, history, rows_of

_DIGEST = "0123456789abcdef" * 4


def test_a_record_gives_its_receipt() -> None:
    (row,) = rows_of(history("s", [(CREATE, 0)]))
    assert parse(row, MACHINES).receipt == Receipt(1, row.digest.hex())


@given(st.integers(1, 2**53), st.binary(min_size=32, max_size=32))
def test_a_receipt_is_parsed_from_its_text(position: int, digest: bytes) -> None:
    receipt = Receipt(position, digest.hex())
    assert Receipt.parse(str(receipt)) == receipt


def test_a_receipts_text_is_as_documented() -> None:
    assert str(Receipt(812, _DIGEST)) == f"812.{_DIGEST}"


def test_a_later_receipt_is_greater() -> None:
    assert max(Receipt(9, GENESIS.hex()), Receipt(10, GENESIS.hex())).position == 10


@pytest.mark.parametrize(
    "text",
    [
        "",
        "812",
        f".{_DIGEST}",
        f"0.{_DIGEST}",
        f"-1.{_DIGEST}",
        f"08.{_DIGEST}",
        f"8.{_DIGEST[1:]}",
        f"8.{_DIGEST}0",
        f"8.{_DIGEST.upper()}",
        f"8.{_DIGEST}\n",
        f"{'9' * 20}.{_DIGEST}",
        "\N{FULLWIDTH DIGIT EIGHT}." + _DIGEST,
    ],
)
def test_an_invalid_receipt_is_refused(text: str) -> None:
    with pytest.raises(ReceiptMalformed, match="64 hexadecimal digits"):
        Receipt.parse(text)
