"""Uses of Litestar's undocumented parts, because of which pyproject.toml caps its minor version.

A test names each of them, so that an incompatible version fails there and not at a request.
"""

from __future__ import annotations

from enum import EnumType
from typing import Any, get_args

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


def parameter_of(request: Request[Any, Any, Any], name: str) -> tuple[str, list[str]]:
    """Return what clients call the parameter ``name`` of the handler of ``request``, and its values if it is an enum."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    if field is None:
        return name, []
    kinds: list[Any] = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, EnumType)]
    return getattr(field.kwarg_definition, "name", None) or name, [value.value for kind in kinds for value in kind]


def named_schema(schema_creator: Any, field: FieldDefinition) -> Schema:
    """Return the registered schema of the type of ``field``."""
    schema: Schema = schema_creator.schema_registry.get_schema_for_field_definition(field)
    return schema
