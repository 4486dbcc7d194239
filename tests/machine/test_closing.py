from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.closing import CLOSE_CODES, ClientAction, Close, CloseCode

_PROMISED = {
    1000: ("bye", ClientAction.NONE),
    1001: ("draining", ClientAction.RECONNECT),
    1008: ("Session not found", ClientAction.START_SESSION),
    1009: ("message too big", ClientAction.FIX_CLIENT),
    1011: ("internal error", ClientAction.RECONNECT),
    1013: ("overloaded", ClientAction.RECONNECT),
    4400: ("bad message: why", ClientAction.FIX_CLIENT),
    4401: ("not authenticated: why", ClientAction.LOG_IN),
    4403: ("session ended: why", ClientAction.START_SESSION),
    4408: ("token expired", ClientAction.REFRESH),
    4409: ("displaced by another connection", ClientAction.ASK_USER),
    4413: ("slow consumer", ClientAction.RECONNECT),
    4420: ("too many frames", ClientAction.FIX_CLIENT),
    4429: ("too many connections", ClientAction.ASK_USER),
    4504: ("heartbeat lost", ClientAction.RECONNECT),
}


_CHARACTERS = st.characters(exclude_categories=["Cs"])


def test_close_codes_are_as_documented() -> None:
    held = {row.code: (Close(name, "why").reason, row.next) for name, row in CLOSE_CODES.items()}
    assert _PROMISED.items() <= held.items()
    assert set(held) - set(_PROMISED) == {1002, 1007}


def test_close_names_and_codes_are_unique() -> None:
    assert len({row.code for row in CLOSE_CODES.values()}) == len(CLOSE_CODES) == 17
    assert all(name == row.name for name, row in CLOSE_CODES.items())


@pytest.mark.parametrize("row", CLOSE_CODES.values(), ids=lambda row: row.name)
def test_close_codes_are_ones_that_applications_may_send(row: CloseCode) -> None:
    # RFC 6455, 7.4: 1004 to 1006 and 1015 are never sent; 3000 to 3999 are for registered libraries.
    assert row.code in {1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013} or 4000 <= row.code <= 4999


@given(st.sampled_from(sorted(CLOSE_CODES)), st.text(_CHARACTERS) | st.text(_CHARACTERS, min_size=100))
def test_a_close_reason_fits_its_frame_and_is_cut_between_characters(name: str, detail: str) -> None:
    close = Close(name, detail)
    whole = CLOSE_CODES[name].reason.replace("{reason}", detail)
    assert len(close.reason.encode()) <= 123
    assert whole.startswith(close.reason)
    if len(whole.encode()) <= 123:
        assert close.reason == whole
    else:
        assert len(close.reason.encode()) > 123 - 4
    assert close.code == CLOSE_CODES[name].code


def test_a_close_detail_is_not_a_template() -> None:
    assert Close("bad_message", "{code} {}").reason == "bad message: {code} {}"
