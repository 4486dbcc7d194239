"""JSON Schemas of the parameters and results of remote intents, whose types are not declared in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
import msgspec

from interlock.machine.errors import RealmInvalid

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
"""The only dialect: that of OpenAPI 3.1."""


_BASES: Final = frozenset({"$id", "$anchor", "$dynamicAnchor", "$dynamicRef"})
"""Keywords that change what a reference is relative to. Without them, a schema can be moved into another document."""


class JsonValue(msgspec.Struct, frozen=True):
    """Parameters that fit a :class:`JsonSchema`, as decoded JSON."""

    value: Any


class Misfit(Exception):
    """A value does not fit its schema. ``field`` is the path of the wrong part; neither text repeats what the client sent."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else problem)


class JsonSchema:
    """A JSON Schema (draft 2020-12), which names no other document.

    Patterns are matched in linear time, so they have neither look-around nor back references: the time of a check is bounded
    by the sizes of schema and value. Formats are checked.

    Raises:
        RealmInvalid: ``schema`` is not a schema, or refers to something outside it. The message begins with ``called``.
    """

    def __init__(self, called: str, schema: dict[str, Any]) -> None:
        if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
            raise RealmInvalid(f"{called}: $schema is {DIALECT}, or left out")
        if used := _BASES & {*_keywords(schema)}:
            raise RealmInvalid(f"{called}: {min(used)} can't be used; refer to #/$defs/... with $ref")
        try:
            jsonschema_rs.meta.validate({**schema, "$schema": DIALECT})
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=True,
                pattern_options=jsonschema_rs.RegexOptions(),
                offline=True,
                mask="the value",
            )
        except jsonschema_rs.ValidationError as error:
            at = ".".join(map(str, error.instance_path))
            raise RealmInvalid(f"{called}: not a usable JSON Schema: {at and f'{at}: '}{error.message}") from None
        except jsonschema_rs.ReferencingError as error:
            raise RealmInvalid(f"{called}: a $ref leads nowhere: {error}") from None
        self.schema: Final = schema
        self._names = frozenset(_declared(schema))

    def check(self, value: Any) -> None:
        """Check that ``value``, decoded JSON, fits.

        Raises:
            Misfit: it does not.
        """
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            raise self._misfit(error) from None
        except (ValueError, RecursionError):
            raise Misfit("", "nested too deeply") from None

    def placed_at(self, pointer: str) -> dict[str, Any]:
        """Return the schema for another document, in which it stands at ``pointer``, such as ``#/components/schemas/a``."""
        placed: dict[str, Any] = _moved(self.schema, pointer)
        placed.pop("$schema", None)
        return placed

    def _misfit(self, error: jsonschema_rs.ValidationError) -> Misfit:
        # Names that the schema does not declare are the client's.
        path = "".join(f".{each}" if each in self._names else "[...]" for each in error.instance_path).lstrip(".")
        match error.kind.name:
            case "required":
                return Misfit(f"{path}.{error.kind.as_dict()['property']}".lstrip("."), "is missing")
            case "additionalProperties" | "unevaluatedProperties":
                return Misfit(path, "contains an unknown field")
            case "propertyNames":
                return Misfit(path, "contains a field whose name is not allowed")
            case _:
                return Misfit(path, error.message)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield ``schema``, and every object inside it."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(part)


def _keywords(schema: dict[str, Any]) -> Iterator[str]:
    for part in _parts(schema):
        yield from (name for name, value in part.items() if isinstance(value, str))


def _declared(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the properties that ``schema`` declares, also inside it."""
    for part in _parts(schema):
        properties = part.get("properties")
        yield from properties if isinstance(properties, dict) else ()


def _moved(schema: Any, pointer: str) -> Any:
    """Return a copy of ``schema`` whose references are relative to the document in which it stands at ``pointer``."""
    if isinstance(schema, list):
        return [_moved(each, pointer) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, pointer) for name, value in schema.items()}
    if isinstance(reference := moved.get("$ref"), str):
        moved["$ref"] = pointer + reference.removeprefix("#")
    return moved
