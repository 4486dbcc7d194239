"""The checks of what a realm declares. Each raises RealmInvalid, which says what to change, when the realm is imported."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from interlock.context import Context
from interlock.machine.errors import RealmInvalid
from interlock.machine.execution.commands import Effects, OnSessionEnd

MAX_TIMEOUT_S: Final = 24 * 60 * 60

_REALM: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_INTENT: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}(\.[a-z][a-z0-9_-]{0,31}){1,3}")
_FORM: Final = "async def f(context: Context, parameters: P) -> R"


def check_realm_name(name: str) -> None:
    """Check that ``name`` is 1 to 32 lower-case letters, digits, ``-`` or ``_``, with a letter first."""
    if not _REALM.fullmatch(name):
        raise RealmInvalid(
            f"realm {name!r}: a name has 1 to 32 lower-case letters, digits, - or _, and begins with a letter"
        )


def check_intent_name(name: str, realm: str) -> None:
    """Check that ``name`` begins with that of its realm, so that no two realms declare the same one."""
    if not isinstance(name, str):
        raise RealmInvalid(f'an intent has a name: @realm.intent("{realm}.create")')
    if not _INTENT.fullmatch(name) or not name.startswith(f"{realm}."):
        raise RealmInvalid(f"intent {name!r}: a name is that of the realm, a dot and a name, such as {realm}.create")


def check_options(name: str, effects: Effects, on_session_end: OnSessionEnd, timeout_s: float) -> None:
    """Check the options of the intent ``name``, for authors who use no type checker."""
    for option, value, values in (
        ("effects", effects, typing.get_args(Effects)),
        ("on_session_end", on_session_end, typing.get_args(OnSessionEnd)),
    ):
        if value not in values:
            raise RealmInvalid(f"intent {name}: {option} is one of {', '.join(values)}, not {value!r}")
    if not isinstance(timeout_s, int | float) or not 0.001 <= timeout_s <= MAX_TIMEOUT_S:  # noqa: PLR2004  # the log's unit
        raise RealmInvalid(f"intent {name}: timeout_s is a number from 0.001 to {MAX_TIMEOUT_S}, not {timeout_s!r}")


def checked_roles(name: str, roles: Iterable[str]) -> frozenset[str]:
    """Return ``roles``, the groups that the intent ``name`` asks for."""
    if isinstance(roles, str) or not all(isinstance(each, str) and each for each in roles):
        raise RealmInvalid(f'intent {name}: roles are a list of group names, such as roles=["editors"]')
    return frozenset(roles)


def types_of(name: str, handler: Callable[..., Any]) -> tuple[type[msgspec.Struct], type[msgspec.Struct] | None]:
    """Return the types of the parameters and the result of ``handler``, the code of the intent ``name``."""
    if not inspect.iscoroutinefunction(handler):
        raise RealmInvalid(f"intent {name}: its code must be async: {_FORM}")
    try:
        hints = typing.get_type_hints(handler)
    except NameError as error:
        raise RealmInvalid(f"intent {name}: {error}; declare the types at the top of a module") from None
    arguments = list(inspect.signature(handler).parameters)
    if len(arguments) != 2 or "return" not in hints or not hints.keys() >= {*arguments}:  # noqa: PLR2004  # see _FORM
        raise RealmInvalid(f"intent {name}: its code takes two arguments and annotates all types: {_FORM}")
    context, parameters, result = hints[arguments[0]], hints[arguments[1]], hints["return"]
    if context is not Context:
        raise RealmInvalid(f"intent {name}: the first argument is the Context: {_FORM}")
    if not _is_struct(parameters):
        raise RealmInvalid(f"intent {name}: the parameters are a msgspec.Struct, not {parameters}")
    if result is not type(None) and not _is_struct(result):
        raise RealmInvalid(f"intent {name}: the result is a msgspec.Struct or None, not {result}")
    _check_strict(name, parameters)
    return parameters, None if result is type(None) else result


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _check_strict(name: str, parameters: type[msgspec.Struct]) -> None:
    """Check that every type inside ``parameters`` refuses unknown fields. Of ``parameters`` itself, the intent refuses them."""
    if parameters.__struct_config__.array_like:
        raise RealmInvalid(
            f"intent {name}: the parameters are a JSON object, so {parameters.__name__} can't be array_like"
        )
    for inner in _inside(shapes.type_info(parameters), set()):
        match inner:
            case shapes.StructType(forbid_unknown_fields=False):
                raise RealmInvalid(
                    f"intent {name}: {inner.cls.__name__}, inside the parameters, would ignore unknown fields; declare it"
                    " with forbid_unknown_fields=True"
                )
            case shapes.DataclassType() | shapes.TypedDictType() | shapes.NamedTupleType() | shapes.CustomType():
                raise RealmInvalid(
                    f"intent {name}: {inner.cls.__name__}, inside the parameters, must be a msgspec.Struct"
                )


def _inside(shape: shapes.Type, seen: set[int]) -> Iterator[shapes.Type]:
    for value in msgspec.structs.astuple(shape):
        for part in value if isinstance(value, tuple) else (value,):
            inner = part.type if isinstance(part, shapes.Field) else part
            if isinstance(inner, shapes.Type) and id(inner) not in seen:
                seen.add(id(inner))
                yield inner
                yield from _inside(inner, seen)
