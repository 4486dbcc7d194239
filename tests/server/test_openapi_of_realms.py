"""The OpenAPI document of a server with realms: it describes the intents of each."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from msgspec import Struct

from interlock import Context, Realm
from interlock.realm import PROMISES, Realms
from interlock.server.app import build_app
from interlock.server.settings import Settings
from tests.support import errands

other = Realm("other")


class Text(Struct, forbid_unknown_fields=True):
    """A type with the name of another realm's."""

    number: int = 0


class Both(Struct):
    """Parameters and result."""

    text: Text | None = None


@other.intent("other.text", effects="idempotent", timeout_s=0.5, roles=["staff", "on | call"])
async def text(_context: Context, _parameters: Text) -> None: ...


@other.intent("other.both", effects="idempotent")
async def both(_context: Context, parameters: Both) -> Both:
    return parameters


def document_of(*realms: Realm) -> dict[str, Any]:
    document: dict[str, Any] = build_app(Settings(), Realms(realms)).openapi_schema.to_schema()
    return document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return document_of(errands.realm, other)


def body(name: str, **parameters: Any) -> dict[str, Any]:
    return {"id": "x", "name": name, "parameters": parameters}


def test_a_document_with_realms_is_valid(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
        assert schema["title"] == name, "generators call a type by its title"


@pytest.mark.parametrize(
    ("intent", "fits"),
    [
        (body("errands.say", text="a", times=2, among=[{"text": "b"}]), True),
        (body("errands.say"), False),
        (body("errands.say", text="a", more=1), False),
        (body("errands.say", text="a" * 101), False),
        (body("errands.wait"), True),
        (body("errands.wait", text="a"), False),
        (body("errands.shout", text="a"), False),
        (body("other.text", number=1), True),
        (body("other.text", text="a"), False),
        (body("other.both", text={"number": 1}), True),
        (body("other.both", more=1), False),
        ({"id": "", "name": "errands.wait", "parameters": {}}, False),
        ({"name": "errands.wait", "parameters": {}}, False),
    ],
)
def test_the_body_is_a_choice_of_the_declared_intents(document: dict[str, Any], intent: Any, fits: bool) -> None:  # noqa: FBT001  # a parameter of the test
    media = document["paths"]["/api/intents"]["post"]["requestBody"]["content"]["application/json"]
    assert jsonschema_rs.is_valid({**media["schema"], "components": document["components"]}, intent) is fits


def test_the_choice_is_by_name(document: dict[str, Any]) -> None:
    choice = document["components"]["schemas"]["IntentRequest"]
    names = [*errands.realm.intents, *other.intents]
    mapping = choice["discriminator"]["mapping"]
    assert choice["discriminator"]["propertyName"] == "name"
    assert [*mapping] == names
    assert [each["$ref"] for each in choice["oneOf"]] == [*mapping.values()]
    for name, reference in mapping.items():
        variant = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert variant["properties"]["name"]["const"] == name


def test_the_description_lists_each_intent_and_its_promise(document: dict[str, Any]) -> None:
    described = document["paths"]["/api/intents"]["post"]["description"]
    rows = [line for line in described.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [*errands.realm.intents, *other.intents]
    assert (
        f"| `errands.say` | `errands.Text` | `errands.Said` | `idempotent`: {PROMISES['idempotent']} | 30 s |  |"
        in rows
    )
    assert rows[-2].endswith("| null | `idempotent`: " + PROMISES["idempotent"] + " | 0.5 s | `on \\| call`, `staff` |")
    assert PROMISES["once"] in rows[2]


def test_without_realms_the_body_is_any_intent() -> None:
    document = document_of()
    schema = document["components"]["schemas"]["IntentRequest"]
    assert schema["properties"]["parameters"]["type"] == "object"
    assert "| name |" not in document["paths"]["/api/intents"]["post"]["description"]
