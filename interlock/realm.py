"""Realms: the code of an application that handles intents, and what it declares about each.

.. code-block:: python

    realm = Realm("notes")

    @realm.intent("notes.create", effects="once", timeout_s=30)
    async def create(context: Context, parameters: Create) -> Created: ...
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from interlock.context import Context, encoded
from interlock.declarations import check_intent_name, check_options, check_realm_name, checked_roles, types_of
from interlock.intents import MAX_ERROR_CHARACTERS, MAX_RESULT_BYTES, read_parameters
from interlock.machine.errors import (
    IntentUnknown,
    InterlockError,
    ParametersRefused,
    RealmInvalid,
    ResultRefused,
    RoleMissing,
)
from interlock.machine.execution.commands import Effects, OnSessionEnd
from interlock.schemas import JsonSchema, JsonValue, Misfit
from interlock.strict_json import canonical_json

P = TypeVar("P", bound=msgspec.Struct)
PROMISES: Final[dict[Effects, str]] = {
    "once": "at most once: after a start it never runs again",
    "idempotent": "at least once: after a crash it runs again, as the same execution",
    "transactional": "exactly once: the outcome commits in the realm's own transaction",
}
"""What is promised about the effects of an intent. In any case it is accepted once, and one outcome is recorded."""

R = TypeVar("R", bound=msgspec.Struct | None)

Handler: TypeAlias = Callable[[Context, P], Coroutine[Any, Any, R]]
"""The code of an intent."""


GRACE_MS: Final = 5_000
"""How long cancelled code may take to stop. Then the outcome is recorded whatever the code does."""


class Store(Protocol):
    """Where a realm with transactional intents keeps the outcomes: in the database of its domain data.

    One table in it names for each execution the highest closed attempt, or the attempt that has committed and its result.
    """

    async def prepare(self) -> None:
        """Create what is missing in the database. The server calls it once, before it starts an execution."""
        ...

    async def commit(self, connection: Any, execution_id: str, attempt: int, result: bytes) -> None:
        """Add the outcome to the transaction that is open on ``connection``, and commit that.

        Raises:
            AttemptClosed: an attempt has committed already, or this one is closed. The transaction is rolled back.
        """
        ...

    async def close(self, execution_id: str, attempt: int) -> bytes | None:
        """Close all attempts up to ``attempt``: from now on none of them can commit.

        Return the committed result, or None. The server calls this before it starts another attempt, and before it records
        any other outcome than a result, so that no effect happens without its outcome.
        """
        ...


class Intent(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One declared intent.

    ``timeout_ms`` counts from its acceptance. Without ``roles``, every account may submit it. A remote intent has schemas in
    place of types: its parameters are a :class:`~interlock.schemas.JsonValue`, and its result is decoded JSON.
    """

    realm: str
    name: str
    effects: Effects
    on_session_end: OnSessionEnd
    timeout_ms: int
    roles: frozenset[str]
    parameters: type[msgspec.Struct] | JsonSchema
    result: type[msgspec.Struct] | JsonSchema | None
    handler: Handler[Any, Any]
    store: Store | None
    description: str

    def ensure_allowed(self, groups: Iterable[str]) -> None:
        """Check that an account in ``groups`` may submit this intent.

        Raises:
            RoleMissing: the intent needs one of ``roles``, and ``groups`` has none of them.
        """
        if self.roles and self.roles.isdisjoint(groups):
            raise RoleMissing(self.name)

    def decode_parameters(self, raw: bytes) -> msgspec.Struct:
        """Return ``raw``, JSON, as the declared type.

        Raises:
            ParametersRefused: it is not JSON, too large, has an unknown field, or a field has a wrong value.
        """
        given = read_parameters(raw)
        try:
            if isinstance(self.parameters, JsonSchema):
                return _fitting(self.parameters, given)
            parameters = msgspec.convert(given, type=self.parameters, str_keys=True)
        except msgspec.ValidationError as error:
            raise ParametersRefused(*_field_and_problem(str(error))) from None
        if given.keys() - {*self.parameters.__struct_encode_fields__, self.parameters.__struct_config__.tag_field}:
            raise ParametersRefused("", "contains an unknown field")
        return parameters

    def encode_result(self, value: Any) -> bytes:
        """Return the JSON of ``value``, a result of the realm's code, with sorted names.

        Raises:
            ResultRefused: it is not of the declared type, or larger than 64 KiB.
        """
        if isinstance(self.result, JsonSchema):
            return _encoded_fitting(self.result, value)
        if not (value is None if self.result is None else isinstance(value, self.result)):
            declared = self.result.__name__ if self.result else "None"
            raise ResultRefused(f"the result is a {type(value).__name__}; {self.name} declares {declared}")
        raw, said = encoded("the result", value, MAX_RESULT_BYTES)
        try:
            msgspec.convert(said, type=self.result, str_keys=True)
        except msgspec.ValidationError as error:
            field, problem = _field_and_problem(str(error))
            where = f"{field}: {problem}" if field else problem
            raise ResultRefused(f"the result does not fit its declared type: {where}") from None
        return raw

    async def run(self, context: Context, parameters: msgspec.Struct) -> bytes:
        """Run the realm's code once, and return the JSON of its result.

        Raises:
            ResultRefused: the code returned something else than it declares, or did not commit a transactional result.
            Exception: whatever the code raises, unless it has committed before.
        """
        try:
            returned = await self.handler(context, parameters)
        except Exception:
            if context.committed is None:
                raise
            return context.committed
        if self.effects != "transactional":
            return self.encode_result(returned)
        if context.committed is None:
            raise ResultRefused(f"{self.name} is transactional, and returned without context.commit()")
        return context.committed


def error_text(error: BaseException) -> str:
    """Return what the owner of an execution may read of the error that ended it, at most 1000 characters.

    Errors raised on purpose have texts for callers. Any other text may hold a secret of the realm.
    """
    text = str(error) if isinstance(error, InterlockError) else f"the realm's code raised {type(error).__name__}"
    return text[:MAX_ERROR_CHARACTERS]


class Realm:
    """A named set of intents, with the code that handles them.

    ``store`` is needed for intents with ``effects="transactional"``.

    Raises:
        RealmInvalid: ``name`` is not a name.
    """

    def __init__(self, name: str, *, store: Store | None = None) -> None:
        check_realm_name(name)
        self.name: Final = name
        self.store: Final = store
        self._intents: dict[str, Intent] = {}

    @property
    def intents(self) -> Mapping[str, Intent]:
        """The declared intents, by name."""
        return types.MappingProxyType(self._intents)

    def intent(
        self,
        name: str,
        *,
        effects: Effects = "once",
        timeout_s: float = 30,
        on_session_end: OnSessionEnd = "cancel",
        roles: Iterable[str] = (),
    ) -> Callable[[Handler[P, R]], Handler[P, R]]:
        """Declare the decorated function as the code of the intent ``name``.

        ``effects`` says what happens after a crash: ``once`` never runs the code again, ``idempotent`` runs it again, and
        ``transactional`` runs it again unless ``context.commit`` has committed. ``timeout_s`` counts from the acceptance.
        ``on_session_end`` says whether the end of the session cancels a running execution or lets it ``finish``. The intent
        needs one of ``roles``, if there are any: they are groups of the account.

        Raises:
            RealmInvalid: the declaration is wrong. The message says what to change.
        """
        check_intent_name(name, self.name)
        check_options(name, effects, on_session_end, timeout_s)
        groups = checked_roles(name, roles)
        if effects == "transactional" and self.store is None:
            raise RealmInvalid(f"intent {name}: effects='transactional' needs a store: Realm({self.name!r}, store=...)")

        def declare(handler: Handler[P, R]) -> Handler[P, R]:
            parameters, result = types_of(name, handler)
            self.add(
                Intent(
                    realm=self.name,
                    name=name,
                    effects=effects,
                    on_session_end=on_session_end,
                    timeout_ms=round(timeout_s * 1000),
                    roles=groups,
                    parameters=parameters,
                    result=result,
                    handler=handler,
                    store=self.store,
                    description=inspect.getdoc(handler) or "",
                )
            )
            return handler

        return declare

    def add(self, intent: Intent) -> None:
        """Add ``intent``, whose options are checked.

        Raises:
            RealmInvalid: there is one of this name.
        """
        if intent.name in self._intents:
            raise RealmInvalid(f"intent {intent.name}: declared twice")
        self._intents[intent.name] = intent


class Realms:
    """All realms of one server.

    Raises:
        RealmInvalid: two of them have the same name.
    """

    def __init__(self, realms: Iterable[Realm] = ()) -> None:
        self._realms: dict[str, Realm] = {}
        self._intents: dict[str, Intent] = {}
        for realm in realms:
            if realm.name in self._realms:
                raise RealmInvalid(f"two realms are called {realm.name}")
            self._realms[realm.name] = realm
            self._intents.update(realm.intents)

    def intent(self, name: str) -> Intent:
        """Return the intent ``name``.

        Raises:
            IntentUnknown: no realm declares it.
        """
        try:
            return self._intents[name]
        except KeyError:
            raise IntentUnknown from None

    def __iter__(self) -> Iterator[Realm]:
        return iter(self._realms.values())


def _encoded_fitting(schema: JsonSchema, value: Any) -> bytes:
    try:
        schema.check(value)
        raw = canonical_json(value).encode()
    except Misfit as misfit:
        raise ResultRefused(f"the result does not fit its declared schema: {misfit}") from None
    if len(raw) > MAX_RESULT_BYTES:
        raise ResultRefused(f"the result is {len(raw)} bytes of JSON; the limit is {MAX_RESULT_BYTES}")
    return raw


def _fitting(schema: JsonSchema, value: Any) -> JsonValue:
    try:
        schema.check(value)
    except Misfit as misfit:
        raise ParametersRefused(misfit.field, misfit.problem) from None
    return JsonValue(value)


def _field_and_problem(said: str) -> tuple[str, str]:
    """Return the path and the text of msgspec's error ``said``, without what the client sent."""
    problem, _, path = said.partition(" - at `$")
    path = path.removesuffix("`")
    if missing := _MISSING.fullmatch(problem):
        return f"{path}.{missing[1]}".lstrip("."), "is missing"
    if problem.startswith("Object contains unknown field"):
        problem = "contains an unknown field"
    elif problem.startswith(("Invalid value", "Invalid enum value")):
        problem = "not one of the allowed values"
    return path.lstrip("."), problem


_MISSING: Final = re.compile(r"Object missing required field `([^`]*)`")
