"""Uses of Litestar's undocumented parts, because of which pyproject.toml caps its minor version.

A test names each of them, so that an incompatible version fails there and not at a request.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.openapi.spec import Schema
from litestar.typing import FieldDefinition
from litestar.utils.scope.state import ScopeState


def set_form(request: Request[Any, Any, Any], form: dict[str, str]) -> None:
    """Make the handler's ``data`` from ``form`` instead of Litestar's own reading of the body."""
    ScopeState.from_scope(request.scope).form = dict[str, Any](form)


def body_type(request: Request[Any, Any, Any]) -> Any:
    """Return the body type that the handler of ``request`` declares, or None if it takes none."""
    field = request.route_handler.parsed_data_field
    return None if field is None else field.annotation


def named_schema(schema_creator: Any, field: FieldDefinition) -> Schema:
    """Return the registered schema of the type of ``field``."""
    schema: Schema = schema_creator.schema_registry.get_schema_for_field_definition(field)
    return schema
