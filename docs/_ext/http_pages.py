"""The HTTP reference, from the application's own OpenAPI document and its table of problems."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from litestar.routes import HTTPRoute
from pieces import as_json, code, fenced, prose, table
from samples import sample_execution, sample_fields, sample_session, sample_transition

from interlock.server.app import build_app
from interlock.server.experience.openapi.headers import OF_EVERY_ANSWER
from interlock.server.experience.problem_kinds import problem_kinds
from interlock.server.experience.problems import TYPE_PREFIX
from interlock.server.settings import Settings

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_CREDENTIALS: Final = {
    "bearer": "access token",
    "cookie": "cookie",
    "client": "client secret",
    "admin": "administrator's secret",
    "subscriber": "subscriber's secret",
    "realm": "realm's signature",
}


class Call(msgspec.Struct, frozen=True):
    """One endpoint as OpenAPI describes it; ``about`` is the text of the function that answers it."""

    method: str
    path: str
    about: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        """For example ``POST /api/session``."""
        return f"{self.method.upper()} {self.path}"

    @property
    def anchor(self) -> str:
        """What its section is linked by."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def credential(self) -> str:
        """What a caller has to show."""
        none = "refresh token in the body" if "RefreshBody" in str(self.operation.get("requestBody")) else "none"
        choices: list[dict[str, Any]] = self.operation.get("security") or [{}]
        wanted = [next(iter(choice), none) for choice in choices]
        return " or ".join(_CREDENTIALS.get(each, each) for each in wanted)


@cache
def _application() -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    app = build_app(Settings())
    about = {
        (route.path_format, method.lower()): prose(handler.fn.__doc__)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    }
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    return schema, about


def calls() -> Iterator[Call]:
    """Every endpoint, grouped as the OpenAPI document's tags are ordered."""
    schema, about = _application()
    order = [tag["name"] for tag in schema["tags"]]
    found = [
        Call(method, path, about.get((path, method)) or operation["description"], operation)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if method in _METHODS
    ]
    yield from sorted(found, key=lambda call: order.index(call.operation["tags"][0]))


def endpoint_table() -> str:
    """All calls at a glance."""
    return table(
        ("call", "does", "credential"),
        [(f"[`{call.name}`](#{call.anchor})", call.operation["summary"], call.credential) for call in calls()],
    )


def endpoint_sections() -> str:
    """One section for each call: what it does, what goes in, what comes out."""
    schema, _ = _application()
    tags = {tag["name"]: tag["description"] for tag in schema["tags"]}
    parts: list[str] = []
    group = ""
    for call in calls():
        tag = call.operation["tags"][0]
        if tag != group:
            group = tag
            parts.append(f"## {tags[tag].rstrip('.')}\n")
        parts.append(_section(call, schema))
    return "\n".join(parts)


def problem_table() -> str:
    """All problem types at a glance."""
    return table(
        ("status", "type", "title", "recovery", "what the client does"),
        [(str(k.status), f"[`{k.name}`](#{k.name})", k.title, code(k.recovery), k.advice) for k in problem_kinds()],
    )


def problem_sections() -> str:
    """One section for each problem type; its anchor is the last part of the URN."""
    answered: dict[str, list[Call]] = {}
    for call in calls():
        for response in call.operation["responses"].values():
            for name in re.findall(r"\(`([a-z-]+)`\)", response["description"]):
                answered.setdefault(name, []).append(call)
    everywhere = len(list(calls()))
    parts = []
    for kind in problem_kinds():
        by = answered.get(kind.name, [])
        where = ", ".join(f"[`{call.name}`](http.md#{call.anchor})" for call in by)
        if not where:
            where = "any request it applies to"
        elif len(by) > everywhere // 2:
            where = "most calls"
        parts.append(
            f"({kind.name})=\n### {kind.name}\n\n**{kind.status} {HTTPStatus(kind.status).phrase}.** {kind.title}.\n\n"
            f"`type`\n: `{TYPE_PREFIX}{kind.name}`\n\n"
            f"`recovery`\n: `{kind.recovery}`: {kind.advice}\n\nAnswered by\n: {where}\n"
        )
    return "\n".join(parts)


def _section(call: Call, schema: dict[str, Any]) -> str:
    operation = call.operation
    lines = [
        f"({call.anchor})=\n### `{call.name}`\n",
        f"{call.about or operation['summary']}\n",
        f"Credential\n: {call.credential}\n",
        f"Operation id\n: `{operation['operationId']}`\n",
    ]
    if operation.get("parameters"):
        lines.append("Parameters\n")
        lines.append(
            table(
                ("name", "in", "type", "default", "meaning"),
                [
                    (
                        code(each["name"]),
                        each["in"],
                        _type(each["schema"]),
                        code(str(each["schema"].get("default", ""))),
                        each.get("description", ""),
                    )
                    for each in operation["parameters"]
                ],
            )
        )
    lines += _body(operation, schema)
    lines += _answers(call, schema)
    return "\n".join(lines)


def _body(operation: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    body = operation.get("requestBody")
    if body is None:
        return
    ((media_type, media),) = body["content"].items()
    name = _reference(media["schema"])
    properties = schema["components"]["schemas"][name]["properties"]
    if not properties:
        yield "Request\n: no body, or `{}`. Any field in it is refused.\n"
        return
    required = schema["components"]["schemas"][name].get("required", ())
    yield "Request\n" if media_type == "application/json" else f"Request, as `{media_type}`\n"
    yield table(
        ("field", "type", "", "meaning"),
        [
            (code(field), _type(each), "" if field in required else "optional", each.get("description", ""))
            for field, each in properties.items()
        ],
    )
    example = _example(name, schema)
    yield as_json(example) if media_type == "application/json" else fenced("text", urlencode(example))


def _answers(call: Call, schema: dict[str, Any]) -> Iterator[str]:
    yield "Answers\n"
    rows = []
    example: Any = None
    for status, response in sorted(call.operation["responses"].items()):
        names = re.findall(r"\(`([a-z-]+)`\)", response["description"])
        if names:
            rows.append((status, ", ".join(f"[{name}](problems.md#{name})" for name in names)))
            continue
        headers = "".join(f", header `{header}`" for header in response["headers"] if header not in OF_EVERY_ANSWER)
        content = response.get("content", {}).get("application/json", {}).get("schema")
        name = _reference(content) if content else ""
        if "text/event-stream" in response.get("content", {}):
            rows.append((status, "`text/event-stream`"))
            continue
        what = f"`{name}`" if name else ("no body" if content in ({"type": "null"}, None) else "a JSON object")
        listed = "list of " if content and content.get("type") == "array" else ""
        rows.append((status, listed + what + headers))
        if name:
            example = _example(name, schema)
            example = [example] if content and content.get("type") == "array" else example
    if call.name == "POST /api/session":
        example |= {"state": "created", "version": 1}
    if call.name == "POST /api/intents":
        example = sample_execution("accepted")
    yield table(("status", "answer"), rows)
    if example is not None:
        yield as_json(example)


def _reference(schema: dict[str, Any]) -> str:
    """The name of the component that ``schema`` means, or ''."""
    for each in (schema, schema.get("items", {})):
        if "$ref" in each:
            return str(each["$ref"]).rpartition("/")[2]
    return ""


def _type(schema: dict[str, Any]) -> str:
    return " or ".join(each.get("type") or f"`{_reference(each)}`" for each in schema.get("anyOf", (schema,)))


def _example(name: str, schema: dict[str, Any]) -> Any:
    """An instance of component ``name``: from the code for a session, a transition or an execution, else its own examples."""
    if name == "SessionView":
        return sample_session()
    if name == "ExecutionResponse":
        return sample_execution("succeeded")
    if name == "TransitionView":
        return sample_transition()
    component = schema["components"]["schemas"][name]
    if "enum" in component:
        return component["enum"][0]
    return {field: _value(field, each, schema) for field, each in component["properties"].items()}


def _value(field: str, described: dict[str, Any], schema: dict[str, Any]) -> Any:
    """An example of ``field``: one that all pages show, its own, or that of the component or choice that it is."""
    if field in sample_fields():
        return sample_fields()[field]
    choice = described.get("anyOf", (described,))[0]
    if "$ref" in choice:
        return _example(_reference(choice), schema)
    return choice["examples"][0] if "examples" in choice else choice.get("enum", [""])[0]
