"""What the code of a realm gets with each call: who asks, until when, and the calls back into the server.

A :class:`Context` does its input and output through a :class:`Host`. The server's runner implements it, and so does
:mod:`interlock.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from interlock.intents import MAX_PROGRESS_BYTES
from interlock.machine.errors import RealmInvalid, ResultRefused
from interlock.strict_json import portable_json

if TYPE_CHECKING:
    from interlock.realm import Intent

OutcomeState: TypeAlias = Literal["succeeded", "failed", "cancelled"]


class Fence(NamedTuple):
    """A fencing token: it increases with every attempt. A store that keeps the highest one can refuse an older attempt.

    ``position`` is that of the attempt's ``start`` in the log.
    """

    position: int
    attempt: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended.

    ``result`` is the decoded JSON of the result if it succeeded. Otherwise ``reason`` is that of the log (``error``,
    ``timeout``, ``interrupted``, ``asked``, …), and ``error`` is a text about it, if there is one.
    """

    state: OutcomeState
    result: Any = None
    reason: str | None = None
    error: str | None = None


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one attempt of an execution."""

    session_id: str
    subject: str
    groups: frozenset[str]
    execution_id: str
    intent_id: str
    attempt: int
    deadline_ms: int
    position: int


class Host(Protocol):
    """The input and output of one attempt. Its methods are called in the event loop that runs the realm's code."""

    @property
    def cancelled(self) -> bool:
        """Whether the cancellation of the attempt has begun."""
        ...

    async def emit(self, value: bytes) -> None:
        """Send ``value``, JSON, to the clients that follow the execution."""
        ...

    async def submit(self, intent_id: str, name: str, parameters: bytes) -> str:
        """Submit the intent ``name`` as a child of this execution, in its session. Return the execution id.

        Raises:
            InterlockError: it is refused, as a client's would be.
        """
        ...

    async def outcome(self, execution_id: str) -> Outcome:
        """Wait until the execution has ended, and return how."""
        ...


class Submitted:
    """An intent that a realm's code has submitted."""

    def __init__(self, intent_id: str, execution_id: str, host: Host) -> None:
        self.intent_id = intent_id
        self.execution_id = execution_id
        self._host = host

    async def outcome(self) -> Outcome:
        """Wait until the execution has ended, and return how."""
        return await self._host.outcome(self.execution_id)


class Context:
    """The execution that the realm's code runs for: its facts, and the calls that it may make."""

    def __init__(self, intent: Intent, invocation: Invocation, host: Host) -> None:
        self._intent = intent
        self._invocation = invocation
        self._host = host
        self._submitted = 0
        self._committed: bytes | None = None

    @property
    def session_id(self) -> str:
        """The session under whose authority the execution was accepted."""
        return self._invocation.session_id

    @property
    def subject(self) -> str:
        """The account that submitted the intent. Domain data must be read and written as this subject."""
        return self._invocation.subject

    @property
    def groups(self) -> frozenset[str]:
        """The account's groups when the attempt began."""
        return self._invocation.groups

    @property
    def execution_id(self) -> str:
        """The id of the execution, the same for each attempt."""
        return self._invocation.execution_id

    @property
    def intent_id(self) -> str:
        """The id that the client gave the intent."""
        return self._invocation.intent_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._invocation.attempt

    @property
    def deadline_ms(self) -> int:
        """When the time of the execution is over, in milliseconds since the Unix epoch. Then the attempt is cancelled."""
        return self._invocation.deadline_ms

    @property
    def fence(self) -> Fence:
        """The fencing token of this attempt."""
        return Fence(self._invocation.position, self._invocation.attempt)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is being cancelled. For code that does not await, such as a thread: it should stop."""
        return self._host.cancelled

    @property
    def committed(self) -> bytes | None:
        """The JSON of the result that :meth:`commit` has committed, or None."""
        return self._committed

    async def emit(self, value: Any) -> None:
        """Send ``value``, a Struct or anything that is JSON, as progress to the clients that follow the execution.

        Progress is not recorded: a client that is not connected may miss some.

        Raises:
            ResultRefused: ``value`` is not JSON, or larger than 16 KiB.
        """
        raw, _ = encoded("the emitted value", value, MAX_PROGRESS_BYTES)
        await self._host.emit(raw)

    async def submit(self, name: str, parameters: msgspec.Struct | dict[str, Any]) -> Submitted:
        """Submit the intent ``name`` in the same session. Its id is that of this execution, ``/`` and a number.

        The number counts the calls of one attempt. So an attempt that is repeated, and submits the same intents in the same
        order, gets the executions that the first attempt submitted.

        Raises:
            InterlockError: it is refused, as a client's would be: IntentUnknown, ParametersRefused, RoleMissing, IntentReused,
                TooManyExecutions, or the session's authority is lost.
        """
        self._submitted += 1
        intent_id = f"{self.execution_id}/{self._submitted}"
        execution_id = await self._host.submit(intent_id, name, msgspec.json.encode(parameters))
        return Submitted(intent_id, execution_id, self._host)

    async def commit(self, connection: Any, result: Any) -> None:
        """Record ``result`` as the outcome in the transaction that is open on ``connection``, and commit that.

        An intent with ``effects="transactional"`` must end with it.

        Raises:
            AttemptClosed: this attempt may not have effects any more: it was cancelled, or another has replaced it. The
                transaction is rolled back.
            RealmInvalid: the intent is not transactional, or this attempt has committed already.
            ResultRefused: ``result`` is not of the declared type, or too large.
        """
        if self._intent.effects != "transactional" or self._intent.store is None:
            raise RealmInvalid(f"{self._intent.name}: commit() is for intents with effects='transactional'")
        if self._committed is not None:
            raise RealmInvalid(f"{self._intent.name}: commit() was called twice in one attempt")
        result_json = self._intent.encode_result(result)
        await self._intent.store.commit(connection, self.execution_id, self.attempt, result_json)
        self._committed = result_json


def encoded(what: str, value: Any, limit: int) -> tuple[bytes, Any]:
    """Return the JSON of ``value``, with sorted names, and what it says as decoded JSON. Errors call it ``what``.

    Raises:
        ResultRefused: it can't be encoded, or is larger than ``limit`` bytes.
    """
    try:
        raw = msgspec.json.encode(value, order="sorted")
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultRefused(f"{what} can't be encoded as JSON: {error}") from None
    if len(raw) > limit:
        raise ResultRefused(f"{what} is {len(raw)} bytes of JSON; the limit is {limit}")
    try:
        # A msgspec.Raw in it is encoded as it is, whatever it is.
        return raw, portable_json(raw)
    except (ValueError, RecursionError):
        raise ResultRefused(f"{what} is not valid JSON, has a name twice, or is nested too deeply") from None
