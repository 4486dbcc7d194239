"""Parameters and results are what the intent declares, and errors about them do not repeat what a client sent."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from interlock import Context, Realm, testing
from interlock.intents import MAX_PARAMETERS_BYTES, MAX_RESULT_BYTES
from interlock.machine.errors import ParametersRefused, ResultRefused
from interlock.realm import Intent
from tests.support.asynchronous import asynchronous


class Tag(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Create(msgspec.Struct, rename={"priority": "prio"}):
    text: Annotated[str, Meta(min_length=1)]
    tags: list[Tag] = []
    colour: Literal["red", "blue"] = "red"
    priority: int = 1


class Created(msgspec.Struct):
    text: str
    count: int = 0


class Removed(msgspec.Struct, tag="removed"):
    text: str


realm = Realm("notes")


@realm.intent("notes.create")
async def create(_context: Context, _parameters: Create) -> Created:
    return Created("")


@realm.intent("notes.remove")
async def remove(_context: Context, _parameters: Removed) -> None: ...


CREATE = realm.intents["notes.create"]
UNREADABLE = "not valid JSON, a name twice, or nested too deeply"
REMOVE = realm.intents["notes.remove"]


def test_parameters_are_read_as_the_declared_type() -> None:
    raw = b'{"text": "hello", "tags": [{"name": "x"}], "prio": 3}'
    assert CREATE.decode_parameters(raw) == Create("hello", [Tag("x")], priority=3)
    assert REMOVE.decode_parameters(b'{"type": "removed", "text": "x"}') == Removed("x")
    assert CREATE.decode_parameters(b'{"text": "\\ud83d\\ude00", "prio": 3.0}') == Create("\U0001f600", priority=3)


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b"{}", "text", "is missing"),
        (b'{"text": 1}', "text", "Expected `str`, got `int`"),
        (b'{"text": ""}', "text", "Expected `str` of length >= 1"),
        (b'{"text": "x", "prio": 3.5}', "prio", "Expected `int`, got `float`"),
        (b'{"text": "x", "prio": null}', "prio", "Expected `int`, got `null`"),
        (b'{"text": "x", "hunter2": 1}', "", "contains an unknown field"),
        (b'{"text": "x", "priority": 1}', "", "contains an unknown field"),
        (b'{"text": "x", "colour": "hunter2"}', "colour", "not one of the allowed values"),
        (b'{"text": "x", "tags": [{}]}', "tags[0].name", "is missing"),
        (b'{"text": "x", "tags": [{"name": "x", "hunter2": 1}]}', "tags[0]", "contains an unknown field"),
        (b"[]", "", "Expected `object`, got `array`"),
        (b"null", "", "Expected `object`, got `null`"),
        (b"", "", UNREADABLE),
        (b'{"text": "x", "text": "y"}', "", UNREADABLE),
        (b'{"text": "x", "tags": [1e999]}', "", UNREADABLE),
        (b'{"text": "\xff"}', "", UNREADABLE),
        (b'{"text": "\\ud800"}', "", UNREADABLE),
        (b'{"text": "x", "more": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "", UNREADABLE),
        (b'{"text": "' + b"x" * MAX_PARAMETERS_BYTES + b'"}', "", "65548 bytes of JSON; the limit is 65536"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(raw: bytes, field: str, problem: str) -> None:
    with pytest.raises(ParametersRefused) as refused:
        CREATE.decode_parameters(raw)
    assert (refused.value.field, refused.value.problem) == (field, problem)
    assert str(refused.value) == f"{field or 'the parameters'}: {problem}"


@given(st.binary(max_size=64) | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_input_is_anything_but_taken_or_refused(given_input: Any) -> None:
    raw = given_input if isinstance(given_input, bytes) else msgspec.json.encode(given_input)
    for intent in (CREATE, REMOVE):
        with suppress(ParametersRefused):
            assert msgspec.json.encode(intent.decode_parameters(raw)).startswith(b"{")


def test_a_result_is_json_with_sorted_names() -> None:
    assert CREATE.encode_result(Created("x", 2)) == b'{"count":2,"text":"x"}'
    assert REMOVE.encode_result(None) == b"null"


@pytest.mark.parametrize(
    ("intent", "value", "text"),
    [
        (CREATE, None, "the result is a NoneType; notes.create declares Created"),
        (CREATE, {"text": "x"}, "the result is a dict; notes.create declares Created"),
        (CREATE, Created("x", "many"), "the result does not fit its declared type: count: Expected `int`, got `str`"),  # type: ignore[arg-type]  # that is the case
        (CREATE, Created(object()), "the result can't be encoded as JSON: .*object"),  # type: ignore[arg-type]  # that is the case
        (CREATE, Created("x" * MAX_RESULT_BYTES), "the result is 65557 bytes of JSON; the limit is 65536"),
        (CREATE, Created("\ud800"), "the result can't be encoded as JSON"),
        (REMOVE, Created("x"), "the result is a Created; notes.remove declares None"),
    ],
)
def test_a_result_of_another_type_or_size_is_refused(intent: Intent, value: Any, text: str) -> None:
    with pytest.raises(ResultRefused, match=text):
        intent.encode_result(value)


class Told(msgspec.Struct):
    data: Any


@pytest.mark.parametrize(
    "raw", [b'1], "type": "outcome"', b'{"a":1,"a":2}', b'"\\ud800"', b"1e999", b"[" * 6_000 + b"]" * 6_000]
)
@asynchronous
async def test_raw_bytes_in_a_value_are_json_too(raw: bytes) -> None:
    """They are written as they are: they could end the message around them, and begin another."""
    emitting = Realm("told")

    @emitting.intent("told.emit")
    async def emit(context: Context, _parameters: Told) -> Told:
        await context.emit({"data": msgspec.Raw(raw)})
        return Told("emitted")

    @emitting.intent("told.give")
    async def give(_context: Context, _parameters: Told) -> Told:
        return Told(msgspec.Raw(raw))

    for name in ("told.emit", "told.give"):
        run = await testing.realm(emitting).submit(name, {"data": 1})
        outcome = await run.outcome()
        assert (outcome.state, run.progress) == ("failed", [])
        assert "is not valid JSON" in str(outcome.error)


def test_raw_bytes_that_are_json_are_taken() -> None:
    assert CREATE.encode_result(Created(msgspec.Raw(b'"x"'))) == b'{"count":0,"text":"x"}'  # type: ignore[arg-type]  # that is the case


def test_the_text_about_a_result_does_not_repeat_it() -> None:
    """The log and whoever reads the execution would get what the client had sent."""
    coloured = Realm("coloured")

    @coloured.intent("coloured.give")
    async def give(_context: Context, parameters: Create) -> Create:
        return parameters

    with pytest.raises(ResultRefused) as refused:
        coloured.intents["coloured.give"].encode_result(Create("x", colour="hunter2"))  # type: ignore[arg-type]  # that is the case
    assert str(refused.value) == "the result does not fit its declared type: colour: not one of the allowed values"
