"""A client that runs intents in the test's own event loop, by the rules of the server, and keeps everything in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from interlock.context import Context, Invocation, Outcome
from interlock.intents import canonical_parameters, check_intent_id
from interlock.machine.errors import IntentReused
from interlock.machine.execution.commands import execution_id_of
from interlock.machine.execution.execution import MAX_ATTEMPTS
from interlock.realm import GRACE_MS, Intent, Realm, Realms, error_text

Stop: TypeAlias = Literal["asked", "session_ended", "crash", "timeout"]


def realm(*realms: Realm, subject: str = "acc_test", groups: Iterable[str] = ()) -> RealmClient:
    """Return a client of ``realms``, logged in as ``subject`` with ``groups``."""
    return RealmClient(Realms(realms), subject, frozenset(groups))


class RealmClient:
    """The one session of a client that submits intents. Use it in one event loop."""

    session_id: Final = "ses_test"

    def __init__(self, realms: Realms, subject: str, groups: frozenset[str]) -> None:
        self.subject = subject
        self.groups = groups
        self._realms = realms
        self._runs: dict[str, Run] = {}
        self._positions = itertools.count(1)
        self._prepared: set[int] = set()

    async def run(
        self, name: str, parameters: msgspec.Struct | dict[str, Any], *, intent_id: str | None = None
    ) -> Outcome:
        """Submit an intent, wait until it has ended, and return how."""
        return await (await self.submit(name, parameters, intent_id=intent_id)).outcome()

    async def submit(
        self, name: str, parameters: msgspec.Struct | dict[str, Any], *, intent_id: str | None = None
    ) -> Run:
        """Submit the intent ``name``, and start it. Without an ``intent_id`` it gets one of its own.

        The same id with the same parameters returns the same run.

        Raises:
            IntentIdRefused, IntentUnknown, ParametersRefused, RoleMissing: as the server's.
            IntentReused: the id belongs to a run of another intent, or with other parameters.
        """
        if intent_id is None:
            intent_id = f"intent-{len(self._runs) + 1}"
        check_intent_id(intent_id)
        return await self.submit_as(intent_id, name, msgspec.json.encode(parameters))

    async def submit_as(self, intent_id: str, name: str, raw: bytes) -> Run:
        """Submit the intent ``name`` with the JSON ``raw`` under an id that may be one for intents of executions."""
        canonical = canonical_parameters(raw)
        execution_id = execution_id_of(self.subject, intent_id)
        if (run := self._runs.get(execution_id)) is not None:
            if (run.intent.name, run.parameters) != (name, canonical):
                raise IntentReused
            return run
        intent = self._realms.intent(name)
        intent.ensure_allowed(self.groups)
        decoded = intent.decode_parameters(canonical.encode())
        run = self._runs[execution_id] = Run(self, intent, intent_id, canonical)
        if intent.store is not None and id(intent.store) not in self._prepared:
            await intent.store.prepare()
            self._prepared.add(id(intent.store))
        run.start(decoded)
        return run

    def end_session(self) -> None:
        """End the session: it cancels what is declared with ``on_session_end="cancel"``."""
        for run in self._runs.values():
            if run.intent.on_session_end == "cancel":
                run.stop("session_ended")

    def by_id(self, execution_id: str) -> Run:
        """Return the run with this execution id."""
        return self._runs[execution_id]

    def next_position(self) -> int:
        """Return the position of the next record in a log that is not written."""
        return next(self._positions)


class Run:
    """One execution in the test. ``progress`` is what its code has emitted so far, and ``exception`` what it has raised."""

    def __init__(self, client: RealmClient, intent: Intent, intent_id: str, parameters: str) -> None:
        self.intent = intent
        self.intent_id = intent_id
        self.parameters = parameters
        self.execution_id = execution_id_of(client.subject, intent_id)
        self.attempt = 0
        self.progress: list[Any] = []
        self.exception: BaseException | None = None
        self._client = client
        self._deadline_ms = _now_ms() + intent.timeout_ms
        self._stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._emitted = asyncio.Event()
        self._driver: asyncio.Task[Outcome] | None = None

    def start(self, parameters: msgspec.Struct) -> None:
        """Begin the first attempt."""
        self._driver = asyncio.create_task(self._drive(parameters))
        self._driver.add_done_callback(lambda _: self._emitted.set())

    async def outcome(self) -> Outcome:
        """Wait until the execution has ended, and return how."""
        assert self._driver is not None  # noqa: S101  # the client starts every run that it returns
        return await asyncio.shield(self._driver)

    async def emitted(self, count: int = 1) -> None:
        """Wait until the code has emitted ``count`` values, or the execution has ended."""
        assert self._driver is not None  # noqa: S101  # as above
        while len(self.progress) < count and not self._driver.done():
            self._emitted.clear()
            await self._emitted.wait()

    def emit(self, value: Any) -> None:
        """Take ``value`` as progress."""
        self.progress.append(value)
        self._emitted.set()

    def cancel(self) -> None:
        """Cancel the execution, as its owner."""
        self.stop("asked")

    def crash(self) -> None:
        """Take the attempt away as if the server had crashed: the execution is repeated or fails, as declared."""
        self.stop("crash")

    def stop(self, why: Stop) -> None:
        """Cancel the running attempt, if there is one."""
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def _drive(self, parameters: msgspec.Struct) -> Outcome:
        while True:
            self.attempt += 1
            self._stopped = asyncio.get_running_loop().create_future()
            context = Context(self.intent, self._invocation(), _Host(self._client, self, self._stopped))
            attempt = asyncio.create_task(self.intent.run(context, parameters))
            remaining_s = (self._deadline_ms - _now_ms()) / 1000
            either: set[asyncio.Future[Any]] = {attempt, self._stopped}
            await asyncio.wait(either, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
            if attempt.done():
                return await self._ended(attempt)
            self.stop("timeout")
            attempt.cancel()
            # The store is closed at once, so that code which goes on can't commit any more.
            committed, _ = await asyncio.gather(self._close(), asyncio.wait({attempt}, timeout=GRACE_MS / 1000))
            if attempt.done() and not attempt.cancelled():
                self.exception = attempt.exception()
            if committed is not None:
                return _succeeded(committed)
            if (outcome := self._after(self._stopped.result())) is not None:
                return outcome

    def _invocation(self) -> Invocation:
        return Invocation(
            session_id=self._client.session_id,
            subject=self._client.subject,
            groups=self._client.groups,
            execution_id=self.execution_id,
            intent_id=self.intent_id,
            attempt=self.attempt,
            deadline_ms=self._deadline_ms,
            position=self._client.next_position(),
        )

    async def _ended(self, attempt: asyncio.Task[bytes]) -> Outcome:
        """Return the outcome of an attempt that has ended by itself."""
        try:
            return _succeeded(attempt.result())
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001  # whatever the code raises is its outcome
            self.exception = raised
        if (committed := await self._close()) is not None:
            return _succeeded(committed)
        return Outcome(state="failed", reason="error", error=error_text(self.exception))

    def _after(self, why: Stop) -> Outcome | None:
        """Return the outcome of an attempt that was stopped and has not committed, None if another attempt follows."""
        if why == "crash":
            repeatable = self.intent.effects != "once" and self.attempt < MAX_ATTEMPTS
            return None if repeatable else Outcome(state="failed", reason="interrupted")
        return Outcome(state="failed" if why == "timeout" else "cancelled", reason=why)

    async def _close(self) -> bytes | None:
        store = self.intent.store if self.intent.effects == "transactional" else None
        return await store.close(self.execution_id, self.attempt) if store is not None else None


class _Host:
    """The calls that one attempt may make."""

    def __init__(self, client: RealmClient, run: Run, stopped: asyncio.Future[Stop]) -> None:
        self._client = client
        self._run = run
        self._stopped = stopped

    @property
    def cancelled(self) -> bool:
        return self._stopped.done()

    async def emit(self, value: bytes) -> None:
        self._check()
        self._run.emit(msgspec.json.decode(value))
        await asyncio.sleep(0)

    async def submit(self, intent_id: str, name: str, parameters: bytes) -> str:
        self._check()
        return (await self._client.submit_as(intent_id, name, parameters)).execution_id

    async def outcome(self, execution_id: str) -> Outcome:
        return await self._client.by_id(execution_id).outcome()

    def _check(self) -> None:
        """Stop code that goes on although it was cancelled."""
        if self.cancelled:
            raise asyncio.CancelledError


def _succeeded(raw: bytes) -> Outcome:
    return Outcome(state="succeeded", result=msgspec.json.decode(raw))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
