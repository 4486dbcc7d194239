"""What bodies look like, in the words of JSON Schema: msgspec says it, which reads and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Meta

from interlock.machine.ledger import Receipt
from interlock.machine.session.view import SessionView
from interlock.machine.wire import TransitionView
from interlock.server.experience.litestar_internals import named_schema
from interlock.server.experience.vocabulary import (
    AccountId,
    Digest,
    EndReason,
    Event,
    Kind,
    Position,
    SessionId,
    SessionState,
    State,
    Time,
    Version,
)

_MACHINE: Final[Mapping[type[msgspec.Struct], Mapping[str, Any]]] = {
    SessionView: {
        "session_id": SessionId,
        "state": SessionState,
        "version": Version,
        "subject": AccountId | None,
        "connections": Annotated[int, Meta(examples=[1])],
        "created_at": Time,
        "idle_expires_at": Time,
        "expires_at": Time,
        "reason": EndReason | None,
    },
    TransitionView: {
        "position": Position,
        "kind": Kind,
        "instance_id": SessionId,
        "version": Version,
        "event": Event,
        "source": State | None,
        "target": State,
        "at": Time,
        "actor": AccountId,
        "data": Annotated[
            dict[str, Any], Meta(examples=[{"connection_id": "con_RSlSMZTaSVS48rx2XknO9g", "node": "node-1"}])
        ],
        "digest": Digest,
    },
    Receipt: {"position": Position, "digest": Digest},
}
"""The fields of what the pure machine shows, which knows nothing of OpenAPI."""


class StructSchemas(OpenAPISchemaPlugin):
    """Names each struct that Litestar finds in a handler; :meth:`components` describes all of them.

    Litestar's own description drops what is said of a list's items, and whether other fields are refused.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, type[msgspec.Struct]] = {}

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """See Litestar's class."""
        return not field_definition.is_union and field_definition.is_subclass_of(msgspec.Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """See Litestar's class: the schema is registered, so that Litestar refers to it by name."""
        kind = field_definition.annotation
        self._kinds[kind.__name__] = kind
        schema = named_schema(schema_creator, field_definition)
        schema.title, schema.type = kind.__name__, OpenAPIType.OBJECT
        return schema

    def components(self) -> dict[str, dict[str, Any]]:
        """The schemas of all structs and of what is in them, by name."""
        schemas = _described(self._kinds.values())
        schemas |= _described(
            msgspec.defstruct(kind.__name__, list(fields.items()), namespace={"__doc__": kind.__doc__})
            for kind, fields in _MACHINE.items()
        )
        for schema in schemas.values():
            if "enum" in schema:
                schema["type"] = "string"
        return schemas


def _described(kinds: Any) -> dict[str, dict[str, Any]]:
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)
