"""Remote realms: the declaration file of a realm whose code runs in another program, and is called over HTTP.

.. code-block:: toml

    name = "billing"
    url = "https://billing.example.org/interlock"

    [intents."billing.charge"]
    effects = "idempotent"
    timeout_s = 60

    [intents."billing.charge".parameters]
    type = "object"
    required = ["cents"]
    additionalProperties = false
    properties.cents = { type = "integer", minimum = 1 }
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from interlock.context import Context
from interlock.declarations import check_intent_name, check_options, checked_roles
from interlock.machine.errors import RealmInvalid
from interlock.machine.execution.commands import Effects, OnSessionEnd
from interlock.realm import Handler, Intent, Realm
from interlock.schemas import JsonSchema, JsonValue

SUFFIX: Final = ".toml"
"""How the name of a declaration file ends."""

_MAX_BYTES: Final = 1024 * 1024


class RemoteIntent(msgspec.Struct, frozen=True):
    """Where the code of a remote intent is called. Cancelled calls are posted to ``cancel_url``; empty: they are not."""

    realm: str
    url: str
    cancel_url: str
    name: str
    effects: Effects


RemoteCall: TypeAlias = Callable[[RemoteIntent], Handler[JsonValue, Any]]
"""Returns the handler that calls the code of a remote intent."""


class _IntentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parameters: dict[str, Any]
    result: dict[str, Any] | None = None
    effects: Effects = "once"
    timeout_s: float = 30
    on_session_end: OnSessionEnd = "cancel"
    roles: list[str] = []
    description: str = ""


class _RealmTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    url: str
    intents: dict[str, _IntentTable]
    cancel_url: str = ""


def read_remote(path: Path, call: RemoteCall) -> Realm:
    """Return the realm that the file ``path`` declares. ``call`` makes the handlers of its intents.

    Raises:
        RealmInvalid: the file can't be read, or declares something wrong. The message says what to change.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RealmInvalid(f"the file can't be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise RealmInvalid(f"the file is larger than {_MAX_BYTES} bytes")
    try:
        table = msgspec.toml.decode(raw, type=_RealmTable)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RealmInvalid(f"not a declaration: {error}") from None
    realm = Realm(table.name)
    for name, each in table.intents.items():
        realm.add(_intent(table, name, each, call))
    return realm


def uncallable(intent: RemoteIntent) -> Handler[JsonValue, Any]:
    """Return a handler that refuses to run, for programs that only read what a realm declares."""

    async def refuse(_context: Context, _parameters: JsonValue) -> Any:
        raise RealmInvalid(f"{intent.name} is remote: only a server calls it")

    return refuse


def _intent(realm: _RealmTable, name: str, table: _IntentTable, call: RemoteCall) -> Intent:
    check_intent_name(name, realm.name)
    check_options(name, table.effects, table.on_session_end, table.timeout_s)
    if table.effects == "transactional":
        raise RealmInvalid(
            f"intent {name}: a remote intent can't be transactional: no transaction spans the network. Declare it idempotent,"
            " and have the realm keep each outcome under its webhook-id"
        )
    return Intent(
        realm=realm.name,
        name=name,
        effects=table.effects,
        on_session_end=table.on_session_end,
        timeout_ms=round(table.timeout_s * 1000),
        roles=checked_roles(name, table.roles),
        parameters=_parameters(name, table.parameters),
        result=JsonSchema(f"intent {name}: result", table.result or {}),
        handler=call(RemoteIntent(realm.name, realm.url, realm.cancel_url, name, table.effects)),
        store=None,
        description=table.description,
    )


def _parameters(name: str, schema: dict[str, Any]) -> JsonSchema:
    called = f"intent {name}: parameters"
    if schema.get("type") != "object":
        raise RealmInvalid(f'{called}: the schema begins with type = "object"')
    if not {"additionalProperties", "unevaluatedProperties"} & schema.keys():
        raise RealmInvalid(f"{called}: say additionalProperties = false, so that unknown fields are refused")
    return JsonSchema(called, schema)
