"""The intents of the loaded realms in the OpenAPI document: a body of ``POST /api/intents`` for each, and a table of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from interlock.realm import PROMISES, Intent, Realms
from interlock.schemas import JsonSchema

_REQUEST: Final = "IntentRequest"
_FOLDER: Final = "#/components/schemas/"


def describe_intents(schemas: dict[str, Any], realms: Realms) -> str:
    """Add the intents of ``realms`` to ``schemas``, and return a description of them in Markdown, empty if there are none.

    ``IntentRequest`` becomes a choice, by ``name``. The types of a realm are called ``<realm>.<type>``, because two realms
    may use the same name.
    """
    intents = [intent for realm in realms for intent in realm.intents.values()]
    if not intents:
        return ""
    names: dict[Any, str] = {}
    for realm in realms:
        names |= _add_types(schemas, realm.name, [*_types(realm.intents.values())])
        for intent in realm.intents.values():
            names |= _add_schemas(schemas, intent)
    variants = {intent.name: f"{intent.name}.intent" for intent in intents}
    general = schemas[_REQUEST]
    for intent in intents:
        if not isinstance(intent.parameters, JsonSchema):
            # The server refuses unknown parameters, even if their type does not say so.
            schemas[names[intent.parameters]]["additionalProperties"] = False
        schemas[variants[intent.name]] = _variant(general, intent, names)
    schemas[_REQUEST] = {
        "title": _REQUEST,
        "description": general["description"],
        "oneOf": [{"$ref": _FOLDER + variant} for variant in variants.values()],
        "discriminator": {
            "propertyName": "name",
            "mapping": {name: _FOLDER + variant for name, variant in variants.items()},
        },
    }
    return _table(intents, names)


def _types(intents: Iterable[Intent]) -> Iterator[type[Any]]:
    for intent in intents:
        for declared in (intent.parameters, intent.result):
            if isinstance(declared, type):
                yield declared


def _add_schemas(schemas: dict[str, Any], intent: Intent) -> dict[JsonSchema, str]:
    """Add the schemas of ``intent``, if it is remote. Return their names."""
    names: dict[JsonSchema, str] = {}
    for part, declared in (("parameters", intent.parameters), ("result", intent.result)):
        if isinstance(declared, JsonSchema):
            title = names[declared] = f"{intent.name}.{part}"
            schemas[title] = {**declared.placed_at(_FOLDER + title), "title": title}
    return names


def _add_types(schemas: dict[str, Any], realm: str, types: list[type[Any]]) -> dict[type[Any], str]:
    """Add the schemas of ``types``, and of what they contain. Return the name of each of ``types``."""
    references, components = msgspec.json.schema_components(types, ref_template=f"{_FOLDER}{realm}.{{name}}")
    # Generators call a type by its title.
    schemas.update(
        {title: {**schema, "title": title} for name, schema in components.items() for title in [f"{realm}.{name}"]}
    )
    return {
        each: str(reference["$ref"]).removeprefix(_FOLDER) for each, reference in zip(types, references, strict=True)
    }


def _variant(general: Mapping[str, Any], intent: Intent, names: Mapping[Any, str]) -> dict[str, Any]:
    """Return the schema ``general`` of the body, for ``intent`` only."""
    fields = general["properties"]
    name = {"type": "string", "const": intent.name, "description": fields["name"]["description"]}
    parameters = {"$ref": _FOLDER + names[intent.parameters]}
    return {
        **general,
        "title": f"{intent.name}.intent",
        "description": intent.description or f"The intent `{intent.name}`.",
        "properties": {**fields, "name": name, "parameters": parameters},
    }


def _table(intents: list[Intent], names: Mapping[Any, str]) -> str:
    lines = [
        "The intents of this server:",
        "",
        "| name | parameters | result | effects | time limit | needs one of the groups |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for intent in intents:
        cells = (
            f"`{intent.name}`",
            f"`{names[intent.parameters]}`",
            f"`{names[intent.result]}`" if intent.result is not None else "null",
            f"`{intent.effects}`: {PROMISES[intent.effects]}",
            f"{intent.timeout_ms / 1000:g} s",
            ", ".join(f"`{role}`" for role in sorted(intent.roles)).replace("|", r"\|"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
