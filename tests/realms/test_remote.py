"""The declaration file of a remote realm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.loading import load_realms
from interlock.machine.errors import ParametersRefused, RealmInvalid, ResultRefused
from interlock.schemas import JsonValue
from tests.support.log import interlock

BILLING = """
name = "billing"
url = "https://billing.example.org/interlock"

[intents."billing.charge"]
description = "Charge a card."
effects = "idempotent"
timeout_s = 60
on_session_end = "finish"
roles = ["cashiers"]

[intents."billing.charge".parameters]
type = "object"
required = ["cents"]
additionalProperties = false
properties.cents = { type = "integer", minimum = 1 }
properties.note = { type = "string" }

[intents."billing.charge".result]
type = "object"
required = ["charge"]
properties.charge = { type = "string" }
"""


def write(folder: Path, text: str) -> str:
    path = folder / "billing.toml"
    path.write_text(text)
    return str(path)


def test_a_file_declares_intents_like_those_in_python(tmp_path: Path) -> None:
    intent = load_realms([write(tmp_path, BILLING)]).intent("billing.charge")
    assert (intent.realm, intent.effects, intent.timeout_ms) == ("billing", "idempotent", 60_000)
    assert (intent.on_session_end, intent.roles, intent.description) == (
        "finish",
        frozenset({"cashiers"}),
        "Charge a card.",
    )
    assert intent.decode_parameters(b'{"cents": 5}') == JsonValue({"cents": 5})
    assert intent.encode_result({"charge": "c1", "a": 1}) == b'{"a":1,"charge":"c1"}'


def test_parameters_and_results_must_fit_their_schemas(tmp_path: Path) -> None:
    intent = load_realms([write(tmp_path, BILLING)]).intent("billing.charge")
    for raw, field, problem in [
        (b"{}", "cents", "is missing"),
        (b'{"cents": 5, "x": 1}', "", "contains an unknown field"),
        (b"{", "", "not valid JSON, a name twice, or nested too deeply"),
        (b'{"cents":' + b"[" * 60_000, "", "not valid JSON, a name twice, or nested too deeply"),
    ]:
        with pytest.raises(ParametersRefused) as refused:
            intent.decode_parameters(raw)
        assert (refused.value.field, refused.value.problem) == (field, problem)
    with pytest.raises(ResultRefused, match="the result does not fit its declared schema: charge: is missing"):
        intent.encode_result({})


def test_defaults_are_those_of_a_realm_in_python_and_any_result(tmp_path: Path) -> None:
    text = 'name = "a"\nurl = "https://a.example"\n[intents."a.b".parameters]\ntype = "object"\nadditionalProperties = true\n'
    intent = load_realms([write(tmp_path, text)]).intent("a.b")
    assert (intent.effects, intent.timeout_ms, intent.on_session_end, intent.roles) == (
        "once",
        30_000,
        "cancel",
        frozenset(),
    )
    assert [intent.encode_result(each) for each in (None, [1], "x")] == [b"null", b"[1]", b'"x"']


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "billing"', 'name = "Billing"', "a name has 1 to 32 lower-case letters"),
        ('name = "billing"', 'name = "shop"', "a name is that of the realm, a dot and a name, such as shop.create"),
        ("timeout_s = 60", "timeout_s = 0", "timeout_s is a number from 0.001"),
        ("timeout_s = 60", "timeout = 60", "unknown field `timeout`"),
        ('"idempotent"', '"sometimes"', "Invalid enum value 'sometimes'"),
        ('"idempotent"', '"transactional"', "can't be transactional: no transaction spans the network"),
        ('type = "object"\nrequired = ["cents"]', 'type = "array"', 'the schema begins with type = "object"'),
        ("additionalProperties = false\n", "", "say additionalProperties = false"),
        ('type = "integer"', 'type = "int"', "parameters: not a usable JSON Schema: properties.cents.type: "),
        ('type = "integer"', '"$ref" = "https://x.example/s"', "parameters: not a usable JSON Schema"),
        ('name = "billing"', "name = ", "not a declaration: "),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_to_change(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = write(tmp_path, BILLING.replace(old, new, 1))
    with pytest.raises(RealmInvalid) as refused:
        load_realms([path])
    assert str(refused.value).startswith(f"realm {path}: ")
    assert problem in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RealmInvalid, match=r"realm .*none.toml: the file can't be read: No such file or directory"):
        load_realms([str(tmp_path / "none.toml")])


def test_the_command_prints_a_remote_realm_like_any_other(tmp_path: Path) -> None:
    path = write(tmp_path, BILLING)
    printed = interlock("realms", "--realm", path).stdout
    assert "billing.charge" in printed
    assert "(cents, note?)" in printed
    (realm,) = json.loads(interlock("realms", "--json", "--realm", path).stdout)
    (intent,) = realm["intents"]
    assert intent["parameters"]["properties"]["cents"] == {"type": "integer", "minimum": 1}
    assert intent["result"]["required"] == ["charge"]


def test_the_parameters_of_a_remote_intent_survive_their_encoding(tmp_path: Path) -> None:
    intent = load_realms([write(tmp_path, BILLING)]).intent("billing.charge")
    given: dict[str, Any] = {"cents": 2**63, "note": "\u00e4\u2028"}
    parameters = intent.decode_parameters(msgspec.json.encode(given))
    assert isinstance(parameters, JsonValue)
    assert parameters.value == given
