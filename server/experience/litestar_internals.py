"""The parts of Litestar that its documentation does not promise. pyproject.toml caps the minor version for them.

A test names each of them, so that a version without one fails there and not at a request.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.openapi.spec import Schema
from litestar.typing import FieldDefinition
from litestar.utils.scope.state import ScopeState


def set_form(request: Request[Any, Any, Any], form: dict[str, str]) -> None:
    """Have the handler's ``data`` made from ``form``, and not from what Litestar reads in the body."""
    ScopeState.from_scope(request.scope).form = dict[str, Any](form)


def body_type(request: Request[Any, Any, Any]) -> Any:
    """The type that the handler of ``request`` declares for the body, or None if it takes none."""
    field = request.route_handler.parsed_data_field
    return None if field is None else field.annotation


def named_schema(schema_creator: Any, field: FieldDefinition) -> Schema:
    """The schema that ``schema_creator`` refers to by the name of the type of ``field``."""
    schema: Schema = schema_creator.schema_registry.get_schema_for_field_definition(field)
    return schema
