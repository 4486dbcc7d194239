"""The messages of a client: which texts are messages, and what is said of those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import MessageRefused
from interlock.machine.session.messages import ClientMessage, parse
from tests.machine.samples import MESSAGES

_FIELDS = ["type", "access_token", "id", "name", "parameters", "execution_id", "epoch", "offset", "x"]
_TEXTS = {
    *("", "not JSON", "no type", "unknown type", "unknown field", "not an object", "nested too deeply"),
    *(f"field `{name}` {wrong}" for name in _FIELDS[:-1] for wrong in ("is missing", "has a wrong value")),
}


@given(st.text(st.characters(codec=None)) | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        message = parse(text)
    except MessageRefused as refused:
        why = str(refused)
    else:
        why = "" if isinstance(message, ClientMessage) else "not a message"
    assert why in _TEXTS


@given(st.text())
def test_no_name_or_value_of_the_client_is_in_the_reason(text: str) -> None:
    quoted = f"x - at `$.{text}`"
    for message in ({"type": quoted}, {"type": "ping", quoted: 1}, {"type": "refresh", "access_token": [quoted]}):
        with pytest.raises(MessageRefused) as refused:
            parse(json.dumps(message))
        assert str(refused.value) in _TEXTS


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that are almost messages."""
    keys = st.sampled_from(_FIELDS)
    return st.dictionaries(keys, values | st.sampled_from(["ping", "refresh", "intent", "cancel", "resume", "hello"]))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | _objects(inner),
    max_leaves=4,
)
_EXACT = st.sampled_from(MESSAGES)
_SHAPES: dict[Any, dict[str, Any]] = {
    "ping": {},
    "refresh": {"access_token": str},
    "intent": {"id": str, "name": str, "parameters": object},
    "cancel": {"execution_id": str},
    "resume": {"epoch": str, "offset": int},
}


@given(_EXACT | _objects(_JSON))
def test_only_exact_messages_are_accepted(message: dict[str, Any]) -> None:
    kind = message.get("type")
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    valid = (
        shape is not None
        and message.keys() == {"type", *shape}
        and all(isinstance(message[name], wanted) for name, wanted in shape.items())
        and not isinstance(message.get("offset"), bool)
        and (kind != "resume" or message["offset"] >= 0)
    )
    try:
        parse(json.dumps(message))
        understood = True
    except MessageRefused:
        understood = False
    assert understood == valid
