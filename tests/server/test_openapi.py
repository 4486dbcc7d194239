"""The OpenAPI document: complete, valid, true. Schemathesis tries to disprove it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest
import schemathesis

from interlock.machine.execution.commands import (
    CancelReason,
    Effects,
    FailureReason,
    InterruptionReason,
    OnSessionEnd,
)
from interlock.machine.session.commands import ExpiryReason, RevocationReason
from interlock.server.app import build_app
from interlock.server.experience.problem_kinds import problem_kinds
from interlock.server.experience.problems import TYPE_PREFIX
from interlock.server.guard.secrets import Secrets
from interlock.server.settings import Settings
from interlock.spec.export import LIFECYCLES
from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SESSION
from tests.support.documented import check_documented
from tests.support.server import ServerProcess

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/schema/openapi.json")
    assert answer.headers["content-type"].startswith("application/vnd.oai.openapi+json")
    body: dict[str, Any] = answer.json()
    return body


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every body of a call, in and out: its description, and its media type object."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {media_type}", media
    for status, response in operation["responses"].items():
        for media_type, media in response.get("content", {}).items():
            yield f"{status} {media_type}", media


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name


def test_operation_ids_are_short_and_unique(document: dict[str, Any]) -> None:
    """They become the names of functions in generated clients."""
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert set(names) >= {"createSession", "getSession", "login", "refresh", "logout", "changePassword", "createTicket"}
    for name in names:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+){0,3}", name), name


def test_the_documents_enums_match_the_declarations(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    declared = {
        "SessionState": {state.name for state in SESSION.states},
        "AccountState": {state.name for state in ACCOUNT.states},
        "ExecutionState": {state.name for state in EXECUTION.states},
        "ExecutionReason": {*get_args(FailureReason), *get_args(InterruptionReason), *get_args(CancelReason)},
        "Effects": {*get_args(Effects)},
        "OnSessionEnd": {*get_args(OnSessionEnd)},
        "State": {state.name for lifecycle in LIFECYCLES for state in lifecycle.states},
        "Event": {event.name for lifecycle in LIFECYCLES for event in lifecycle.events},
        "EndReason": {*get_args(ExpiryReason), *get_args(RevocationReason)},
        "ProblemType": {TYPE_PREFIX + kind.name for kind in problem_kinds()},
        "Recovery": {kind.recovery.value for kind in problem_kinds()},
    }
    for name, words in declared.items():
        assert (schemas[name]["type"], set(schemas[name]["enum"])) == ("string", words), name
    names = schemas["ProblemType"]["x-enum-varnames"]
    assert (
        dict(zip(schemas["ProblemType"]["enum"], names, strict=True))["urn:interlock:problem:not-found"] == "NOT_FOUND"
    )
    said = {
        "SessionView": {"state": "SessionState", "reason": "EndReason"},
        "AdminSessionView": {"state": "SessionState", "reason": "EndReason"},
        "TokenResponse": {"state": "SessionState"},
        "IntrospectionResponse": {"session_state": "SessionState"},
        "AdminAccountView": {"state": "AccountState"},
        "ExecutionView": {"state": "ExecutionState", "reason": "ExecutionReason"},
        "ExecutionResponse": {"state": "ExecutionState", "reason": "ExecutionReason"},
        "AdminExecutionView": {
            "state": "ExecutionState",
            "reason": "ExecutionReason",
            "effects": "Effects",
            "on_session_end": "OnSessionEnd",
        },
        "TransitionView": {"event": "Event", "source": "State", "target": "State"},
        "Problem": {
            "type": "ProblemType",
            "recovery": "Recovery",
            "reason": "EndReason",
            "event": "Event",
            "state": "State",
        },
    }
    for name, fields in said.items():
        for field, word in fields.items():
            described = schemas[name]["properties"][field]
            choices = described.get("anyOf", [described])
            assert {"$ref": f"#/components/schemas/{word}"} in choices, f"{name}.{field}"


def test_the_document_has_every_designed_call(document: dict[str, Any]) -> None:
    assert {name for name, _ in operations(document)} >= {
        "POST /api/session",
        "GET /api/session",
        "GET /api/session/transitions",
        "POST /api/session/ticket",
        "POST /api/auth/register",
        "POST /api/auth/login",
        "POST /api/auth/exchange",
        "POST /api/auth/refresh",
        "POST /api/auth/logout",
        "POST /api/auth/password",
        "GET /api/account",
        "GET /api/sessions",
        "DELETE /api/sessions/{session_id}",
        "DELETE /api/sessions",
        "POST /api/intents",
        "GET /api/executions",
        "GET /api/executions/{execution_id}",
        "DELETE /api/executions/{execution_id}",
        "GET /.well-known/jwks.json",
        "POST /oauth/introspect",
        "POST /oauth/revoke",
        "GET /health/live",
        "GET /health/ready",
    }


def test_each_call_is_described_and_its_examples_fit(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for where, media in bodies(operation):
            schema = {**media["schema"], "components": document["components"]}
            for key, example in media.get("examples", {}).items():
                assert set(example) <= {"summary", "description", "value"}, f"{name}: {where} {key}"
                jsonschema_rs.validate(schema, example["value"])
            if where.endswith("problem+json"):
                assert media["examples"], f"{name}: {where}"


def test_each_field_has_an_example_that_fits_it(document: dict[str, Any]) -> None:
    without = {"client_id", "client_secret", "title", "status", "detail", "guard", "error_description"}
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            examples = [each for choice in described.get("anyOf", [described]) for each in choice.get("examples", ())]
            for example in examples:
                jsonschema_rs.validate({**described, "components": document["components"]}, example)
            words = "$ref" in str(described) or "enum" in str(described)
            assert examples or words or field in without, f"{name}.{field}"


def test_null_is_refused_as_a_parameters_value(server: ServerProcess, document: dict[str, Any]) -> None:
    """A null filter that is ignored would return everything."""
    admin = Secrets(server.data / "keys", "admin").create(f"null-{uuid4().hex[:8]}", 1)
    headers = {"authorization": f"Bearer {admin}"}
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            schema = {**parameter["schema"], "components": document["components"]}
            assert not jsonschema_rs.is_valid(schema, None), f"{name}: {parameter['name']}"
            if parameter["in"] == "path" or jsonschema_rs.is_valid(schema, "null"):
                continue
            at, send = (headers, "params") if parameter["in"] == "query" else (headers, "headers")
            sent = {"headers": at} | {send: {**(at if send == "headers" else {}), parameter["name"]: "null"}}
            answer = httpx.request(name.split()[0], server.url + re.sub(r"\{.*?\}", "x", name.split()[1]), **sent)
            if name.split()[1].startswith("/api/admin"):
                assert answer.status_code == 400, f"{name}: {parameter['name']}"


def test_no_problem_quotes_a_parameter(server: ServerProcess) -> None:
    admin = Secrets(server.data / "keys", "admin").create(f"echo-{uuid4().hex[:8]}", 1)
    for name in ("state", "reason", "after", "limit", "subject", "created_from"):
        headers = {"authorization": f"Bearer {admin}"}
        answer = httpx.get(f"{server.url}/api/admin/sessions", params={name: "s3cret" * 20}, headers=headers)
        assert answer.status_code == 400, name
        assert "s3cret" not in answer.text, name


def test_the_document_lists_every_status_of_each_call(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        said = set(operation["responses"])
        method, path = name.split()
        if path.startswith(("/health", "/.well-known")):
            continue
        assert said >= {"500", "503"}, name
        if operation.get("security"):
            assert "401" in said, name
        if "requestBody" in operation:
            assert said >= {"400", "413", "415"}, name
        if operation.get("parameters"):
            assert "400" in said, name
        if path.startswith("/api/auth") or name == "POST /api/session":
            assert "403" in said, f"{name}: a page of a foreign origin"
        for status, response in operation["responses"].items():
            problem = {"application/problem+json"}
            headers = response["headers"]
            assert "X-Request-Id" in headers, f"{name} {status}"
            assert ("WWW-Authenticate" in headers) is (status == "401"), f"{name} {status}"
            assert ("Retry-After" in headers) is (status in {"429", "503"}), f"{name} {status}"
            if int(status) >= 400:
                assert set(response["content"]) == problem, f"{method} {path} {status}"
            elif status == "204":
                assert "content" not in response, name


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (418, {}, {}),
        (200, {"session_id": "x"}, {}),
        (200, None, {"interlock-receipt": "1.x"}),
        (404, {"type": "urn:interlock:problem:not-found"}, {}),
        (401, {"type": "urn:interlock:problem:account-exists"}, {}),
    ],
    ids=["status", "body", "header", "status of another call", "problem of another call"],
)
def test_an_undocumented_response_is_noticed(status: int, content: Any, headers: dict[str, str]) -> None:
    """Every test client checks its answers against the document."""
    if status >= 400 and content:
        headers = {**headers, "content-type": "application/problem+json"}
        content = {"title": "x", "status": status, "detail": "x", "recovery": "log_in", "advice": "x", **content}
    request = httpx.Request("GET", "http://server/api/session")
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
        check_documented(httpx.Response(status, json=content, headers=headers, request=request))


def test_options_lists_what_the_document_does(server: ServerProcess, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        answer = httpx.options(server.url + re.sub(r"\{.*?\}", "x", path))
        assert answer.status_code == 204
        head = ["HEAD"] if "get" in item else []
        assert answer.headers["allow"].split(", ") == sorted([*map(str.upper, item), *head, "OPTIONS"])


def test_options_is_answered_for_every_path(server: ServerProcess) -> None:
    """Even on paths outside the document, and with the same methods that a 405 lists."""
    for route in build_app(Settings()).routes:
        url = server.url + re.sub(r"\{.*?\}", "x", route.path_format)
        answer, wrong = httpx.options(url), httpx.request("TRACE", url)
        assert (answer.status_code, wrong.status_code) == (204, 405), route.path_format
        assert answer.headers["allow"] == wrong.headers["allow"]
        assert "OPTIONS" in answer.headers["allow"].split(", ")


def test_the_document_is_available_as_yaml(server: ServerProcess) -> None:
    assert httpx.get(f"{server.url}/schema/openapi.yaml").text.startswith("components:")


@pytest.mark.parametrize("body", ['"NULL"', "NULL", '"null"', "null", '""', '"{}"', "[]", "0", "false", "{}"])
def test_a_bodys_values_are_not_coerced_to_other_types(
    server: ServerProcess, document: dict[str, Any], body: str
) -> None:
    admin = Secrets(server.data / "keys", "admin").create(f"body-{uuid4().hex[:8]}", 1)
    for name, operation in operations(document):
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None or {"realm": []} in operation.get("security", []):
            continue  # a realm's signature covers the body: tests/remote/test_callback.py sends these
        method, path = name.split()
        headers = {"content-type": "application/json"}
        if operation.get("security"):
            user = httpx.post(f"{server.url}/api/session").json()["access_token"]
            headers["authorization"] = f"Bearer {admin if path.startswith('/api/admin') else user}"
        answer = httpx.request(method, server.url + re.sub(r"\{.*?\}", "x", path), content=body, headers=headers)
        said = f"{name} with {body}: {answer.status_code} {answer.text}"
        if fits({**media["schema"], "components": document["components"]}, body):
            assert answer.status_code != 400, said
        else:
            assert answer.status_code == 400, said


def fits(schema: dict[str, Any], body: str) -> bool:
    """Return whether ``body`` is JSON that fits the schema."""
    try:
        return jsonschema_rs.is_valid(schema, json.loads(body))
    except ValueError:
        return False
