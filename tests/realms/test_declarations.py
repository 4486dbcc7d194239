"""What a realm may declare. A wrong declaration is refused at import, with a text that says what to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from interlock import Context, Realm
from interlock.machine.errors import IntentUnknown, RealmInvalid, RoleMissing
from interlock.machine.execution.commands import Effects
from interlock.realm import PROMISES, Realms


class Create(msgspec.Struct):
    text: str


class Created(msgspec.Struct):
    note_id: int


class Loose(msgspec.Struct):
    text: str


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@dataclasses.dataclass
class Plain:
    text: str


class OfLoose(msgspec.Struct):
    notes: dict[str, list[Loose] | None]


class OfPlain(msgspec.Struct):
    note: Plain


class OfStrict(msgspec.Struct):
    notes: dict[str, list[Strict] | None]


class OfItself(msgspec.Struct):
    inner: OfItself | None = None


class Row(msgspec.Struct, array_like=True):
    text: str


async def create(_context: Context, _parameters: Create) -> Created:
    """Keep a note.

    Its text is not changed.
    """
    return Created(1)


async def nothing(_context: Context, _parameters: Create) -> None: ...


async def strict(_context: Context, _parameters: OfStrict) -> None: ...


def test_an_intent_holds_what_was_declared() -> None:
    realm = Realm("notes")
    declared = realm.intent(
        "notes.create", effects="idempotent", timeout_s=0.5, on_session_end="finish", roles=["b", "a"]
    )
    assert declared(create) is create
    intent = realm.intents["notes.create"]
    assert (intent.realm, intent.name, intent.effects, intent.on_session_end, intent.timeout_ms) == (
        ("notes", "notes.create", "idempotent", "finish", 500)
    )
    assert (set(intent.roles), intent.parameters, intent.result) == ({"a", "b"}, Create, Created)
    assert intent.description.startswith("Keep a note.")


def test_an_intent_runs_once_for_30_s_and_for_everyone_by_default() -> None:
    realm = Realm("notes")
    realm.intent("notes.clear")(nothing)
    intent = realm.intents["notes.clear"]
    assert (intent.effects, intent.timeout_ms, intent.on_session_end) == ("once", 30_000, "cancel")
    assert (intent.result, intent.roles) == (None, frozenset())
    intent.ensure_allowed(())


@pytest.mark.parametrize("name", ["", "Notes", "1st", "no tes", "notes.create", "n" * 33, "nötes", "notes\n"])
def test_a_realm_needs_a_name_of_small_letters(name: str) -> None:
    with pytest.raises(RealmInvalid, match="begins with a letter"):
        Realm(name)


@pytest.mark.parametrize(
    "name", ["", "create", "notes", "notes.", "other.create", "notes.Create", "notes.create\n", "notesx.a"]
)
def test_an_intents_name_begins_with_its_realms(name: str) -> None:
    with pytest.raises(RealmInvalid, match=r"such as notes\.create"):
        Realm("notes").intent(name)


def test_a_decorator_without_its_name_says_what_to_write() -> None:
    with pytest.raises(RealmInvalid, match=r'an intent has a name: @realm\.intent\("notes\.create"\)'):
        Realm("notes").intent(create)  # type: ignore[arg-type]  # the mistake


def test_a_name_may_have_several_parts() -> None:
    realm = Realm("notes")
    realm.intent("notes.tags.add-one")(nothing)
    assert list(realm.intents) == ["notes.tags.add-one"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"effects": "twice"}, "effects is one of once, idempotent, transactional, not 'twice'"),
        ({"effects": "transactional"}, r"needs a store: Realm\('notes', store=...\)"),
        ({"on_session_end": "go on"}, "on_session_end is one of cancel, finish, not 'go on'"),
        ({"timeout_s": 0}, "timeout_s is a number from 0.001 to 86400, not 0"),
        ({"timeout_s": 86_401}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": "30"}, "timeout_s"),
        ({"roles": "editors"}, "roles are a list of group names"),
        ({"roles": [""]}, "roles are a list of group names"),
        ({"roles": [1]}, "roles are a list of group names"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RealmInvalid, match=f"intent notes.create: .*{text}"):
        Realm("notes").intent("notes.create", **options)


def _not_async(_context: Context, _parameters: Create) -> None: ...


async def _three(_context: Context, _parameters: Create, _more: int) -> None: ...


async def _no_result(_context: Context, _parameters: Create): ...  # type: ignore[no-untyped-def]  # noqa: ANN202  # that is the case


async def _no_parameters(_context: Context, _parameters) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # that is the case


async def _swapped(_parameters: Create, _context: Context) -> None: ...


async def _of_dict(_context: Context, _parameters: dict[str, Any]) -> None: ...


async def _to_int(_context: Context, _parameters: Create) -> int:
    return 1


async def _unknown_type(_context: Context, _parameters: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is the case


async def _of_loose(_context: Context, _parameters: OfLoose) -> None: ...


async def _of_plain(_context: Context, _parameters: OfPlain) -> None: ...


async def _of_itself(_context: Context, _parameters: OfItself) -> None: ...


async def _of_row(_context: Context, _parameters: Row) -> None: ...


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (_not_async, "its code must be async: async def"),
        (_three, "its code takes two arguments and annotates all types"),
        (_no_result, "its code takes two arguments and annotates all types"),
        (_no_parameters, "its code takes two arguments and annotates all types"),
        (_swapped, "the first argument is the Context"),
        (_of_dict, "the parameters are a msgspec.Struct, not"),
        (_to_int, "the result is a msgspec.Struct or None, not"),
        (_unknown_type, "name 'Missing' is not defined; declare the types at the top of a module"),
        (_of_loose, "Loose, inside the parameters, would ignore unknown fields"),
        (_of_plain, "Plain, inside the parameters, must be a msgspec.Struct"),
        (_of_itself, "OfItself, inside the parameters, would ignore unknown fields"),
        (_of_row, "the parameters are a JSON object, so Row can't be array_like"),
    ],
)
def test_code_that_does_not_fit_is_refused(code: Callable[..., Any], text: str) -> None:
    realm = Realm("notes")
    with pytest.raises(RealmInvalid, match=f"intent notes.create: {text}"):
        realm.intent("notes.create")(code)
    assert realm.intents == {}


def test_types_that_refuse_unknown_fields_may_be_nested() -> None:
    realm = Realm("notes")
    realm.intent("notes.create")(strict)
    assert realm.intents["notes.create"].parameters is OfStrict


def test_the_same_intent_twice_is_refused() -> None:
    realm = Realm("notes")
    realm.intent("notes.create")(create)
    with pytest.raises(RealmInvalid, match=r"intent notes\.create: declared twice"):
        realm.intent("notes.create")(nothing)
    assert realm.intents["notes.create"].handler is create


def test_two_realms_of_one_name_are_refused() -> None:
    with pytest.raises(RealmInvalid, match="two realms are called notes"):
        Realms([Realm("notes"), Realm("notes")])


def test_an_intent_is_found_in_its_realm() -> None:
    notes, tags = Realm("notes"), Realm("tags")
    notes.intent("notes.create")(create)
    tags.intent("tags.clear")(nothing)
    realms = Realms([notes, tags])
    assert realms.intent("tags.clear").realm == "tags"
    assert list(realms) == [notes, tags]
    with pytest.raises(IntentUnknown, match="no realm declares an intent of this name"):
        realms.intent("notes.destroy")


def test_an_account_needs_one_of_the_roles() -> None:
    realm = Realm("notes")
    realm.intent("notes.create", roles=["editors", "owners"])(create)
    intent = realm.intents["notes.create"]
    intent.ensure_allowed(["readers", "owners"])
    for groups in ([], ["readers"], ["editor"]):
        with pytest.raises(RoleMissing, match=r"the account's groups do not allow notes\.create"):
            intent.ensure_allowed(groups)


def test_each_kind_of_effects_has_its_promise() -> None:
    assert PROMISES.keys() == {*get_args(Effects)}
