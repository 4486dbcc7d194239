"""The AsyncAPI document: complete, and true of every message in the golden dialogues."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema_rs
import pytest

from interlock.machine.session.messages import ClientMessage, ServerMessage
from interlock.server.experience.openapi.asyncapi import asyncapi
from tests.support.dialogues import DIALOGUES, replay
from tests.support.server import ServerProcess

_TAGS = [str(each.__struct_config__.tag) for each in (*get_args(ClientMessage), *get_args(ServerMessage))]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi("")


def test_the_server_answers_the_document(server: ServerProcess, document: dict[str, Any]) -> None:
    answer = httpx.get(f"{server.url}/schema/asyncapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.aai.asyncapi+json;version=3.0.0"
    assert answer.json() == document
    assert document["asyncapi"] == "3.0.0"


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert len(references) > 50
    for reference in references:
        place: Any = document
        for part in reference.split("/"):
            place = place[part]


def test_every_message_is_described_and_belongs_to_an_operation(document: dict[str, Any]) -> None:
    channel = document["channels"]["connect"]
    assert [*channel["messages"]] == [*document["components"]["messages"]] == _TAGS
    named = [each["$ref"] for operation in document["operations"].values() for each in operation["messages"]]
    assert named == [f"#/channels/connect/messages/{tag}" for tag in _TAGS]
    for message in document["components"]["messages"].values():
        assert message["summary"].endswith(".")


def test_every_message_of_the_client_has_answers(document: dict[str, Any]) -> None:
    answers = {
        operation["messages"][0]["$ref"].rpartition("/")[2]: {
            each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]
        }
        for operation in document["operations"].values()
        if operation["action"] == "receive"
    }
    assert answers == {
        "refresh": {"refreshed"},
        "ping": {"pong"},
        "intent": {"accepted", "refused"},
        "cancel": {"outcome", "refused"},
        "resume": {"resumed", "gap"},
    }


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_the_messages_of_a_dialogue_fit_the_document(path: Path, document: dict[str, Any]) -> None:
    for message in replay(path):
        jsonschema_rs.validate(_schema_of(document, message["type"]), _with_whole_problem(message))


def test_every_kind_of_message_is_in_a_dialogue() -> None:
    assert {message["type"] for path in DIALOGUES for message in replay(path)} == {*_TAGS}


@pytest.mark.parametrize("field", ["offset", "receipt", "state"])
def test_an_incomplete_message_does_not_fit_the_document(document: dict[str, Any], field: str) -> None:
    (path,) = (each for each in DIALOGUES if each.stem == "intent")
    (outcome,) = (each for each in replay(path) if each["type"] == "outcome")
    del outcome[field]
    assert not jsonschema_rs.is_valid(_schema_of(document, "outcome"), outcome)


def _schema_of(document: dict[str, Any], tag: str) -> dict[str, Any]:
    return {**document["components"]["messages"][tag]["payload"], "components": document["components"]}


def _with_whole_problem(message: dict[str, Any]) -> dict[str, Any]:
    """Return ``message``; the problem in a dialogue has only what matters there."""
    if "problem" not in message:
        return message
    rest = {"title": "t", "detail": "d", "recovery": "fix_request", "advice": "a"}
    return {**message, "problem": {**rest, **message["problem"]}}
