"""Uses of Litestar's undocumented parts: each exists, and only one module uses them."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version

import litestar
from litestar._openapi.datastructures import SchemaRegistry
from litestar._openapi.schema_generation import SchemaCreator
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope
from litestar.utils.scope.state import ScopeState

from tests.support.source import ROOT

_MODULE = "server/experience/litestar_internals.py"
_INTERNALS = re.compile(r"litestar\.utils|litestar\._|ScopeState|parsed_data_field|parsed_fn_signature|schema_registry")


def test_each_internal_part_of_litestar_is_there() -> None:
    assert "form" in ScopeState.__slots__
    assert callable(ScopeState.from_scope)
    assert hasattr(HTTPRouteHandler, "parsed_data_field")
    assert hasattr(HTTPRouteHandler, "parsed_fn_signature")
    assert isinstance(SchemaCreator(plugins=[]).schema_registry, SchemaRegistry)
    assert callable(SchemaRegistry.get_schema_for_field_definition)
    # What routing leaves in the scope: typed, but not documented.
    assert {"litestar_app", "path_template"} <= set(HTTPScope.__annotations__)


def test_one_module_uses_litestars_internals() -> None:
    files = [path for path in (ROOT / "server").rglob("*.py") if _INTERNALS.search(path.read_text())]
    assert [path.relative_to(ROOT).as_posix() for path in files] == [_MODULE]


def test_litestar_is_required_below_its_next_minor_version() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (wanted,) = [each for each in requirements if each.startswith("litestar")]
    major, minor, *_ = version(litestar.__name__).split(".")
    assert wanted.endswith(f",<{major}.{int(minor) + 1}")
