"""JSON Schemas of remote intents: what fits, and what is refused when they are loaded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from interlock.machine.errors import RealmInvalid
from interlock.schemas import DIALECT, JsonSchema, Misfit

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "maxLength": 9, "pattern": "^(a+)+$"},
        "due": {"type": "string", "format": "date"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "$defs": {"line": {"type": "object", "properties": {"cents": {"type": "integer", "minimum": 1}}}},
}


def test_a_value_that_fits_passes() -> None:
    JsonSchema("s", SCHEMA).check({"text": "aaa", "due": "2026-11-30", "lines": [{"cents": 5}], "by_name": {"x": 1}})


@pytest.mark.parametrize(
    ("value", "field", "problem"),
    [
        ({}, "text", "is missing"),
        ({"text": 5}, "text", 'the value is not of type "string"'),
        ({"text": "secret"}, "text", 'the value does not match "^(a+)+$"'),
        ({"text": "a", "secret": 1}, "", "contains an unknown field"),
        ({"text": "a", "due": "secret"}, "due", 'the value is not a "date"'),
        (
            {"text": "a", "lines": [{"cents": 1}, {"cents": 0}]},
            "lines[...].cents",
            "the value is less than the minimum of 1",
        ),
        ({"text": "a", "by_name": {"secret": "x"}}, "by_name[...]", 'the value is not of type "integer"'),
        (["secret"], "", 'the value is not of type "object"'),
    ],
)
def test_a_misfit_names_the_field_and_repeats_nothing(value: Any, field: str, problem: str) -> None:
    with pytest.raises(Misfit) as misfit:
        JsonSchema("s", SCHEMA).check(value)
    assert (misfit.value.field, misfit.value.problem) == (field, problem)
    assert "secret" not in str(misfit.value)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "strin"}, "s: not a usable JSON Schema: type: "),
        ({"properties": {"a": {"type": "strin"}}}, "s: not a usable JSON Schema: properties.a.type: "),
        ({"$ref": "https://example.org/schema.json"}, "s: not a usable JSON Schema: "),
        ({"$ref": "file:///etc/passwd"}, "s: not a usable JSON Schema: "),
        ({"$ref": "#/$defs/nowhere"}, "s: not a usable JSON Schema: "),
        ({"pattern": "(a"}, "s: not a usable JSON Schema: pattern: "),
        ({"pattern": "(?=a)b"}, "s: not a usable JSON Schema: pattern: "),
        ({"$id": "https://example.org/s"}, "s: $id can't be used; refer to #/$defs/... with $ref"),
        ({"items": {"$anchor": "a"}}, "s: $anchor can't be used; refer to #/$defs/... with $ref"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, f"s: $schema is {DIALECT}, or left out"),
    ],
)
def test_a_schema_that_can_not_be_used_is_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(RealmInvalid) as refused:
        JsonSchema("s", schema)
    assert str(refused.value).startswith(problem)


def test_a_schema_can_be_moved_into_another_document() -> None:
    schema = {"$schema": DIALECT, "$defs": {"a": {"$ref": "#"}}}
    assert JsonSchema("s", {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#"}}}}).placed_at(
        "#/x"
    ) == {
        "allOf": [{"$ref": "#/x/$defs/a"}],
        "$defs": {"a": {"not": {"$ref": "#/x"}}},
    }
    assert JsonSchema("s", schema).placed_at("#/x") == {"$defs": {"a": {"$ref": "#/x"}}}


def test_a_pattern_is_matched_in_linear_time() -> None:
    schema = JsonSchema("s", {"pattern": "^(a+)+$"})
    began = time.process_time()
    with pytest.raises(Misfit):
        schema.check("a" * 60_000 + "b")
    # A matcher that backtracks would take longer than the universe is old.
    assert time.process_time() - began < 60
