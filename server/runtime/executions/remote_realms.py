"""Calls of remote realms: one signed POST for each attempt, and the outcome from its answer or from a signed callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from interlock.context import Context
from interlock.declarations import MAX_TIMEOUT_S
from interlock.intents import MAX_ERROR_CHARACTERS, MAX_RESULT_BYTES
from interlock.machine.errors import (
    IntentFailed,
    OutcomeTooLate,
    RealmInvalid,
    SettingsError,
    WebhookSignatureInvalid,
)
from interlock.machine.times import rfc3339
from interlock.realm import Handler
from interlock.remote import RemoteIntent
from interlock.schemas import JsonValue
from interlock.server.clock import Clock, SystemClock
from interlock.server.guard.realm_secrets import RealmSecrets
from interlock.server.outgoing.client import Answer, OutgoingClient, Unreachable
from interlock.server.outgoing.destinations import Destinations, checked_url
from interlock.server.outgoing.signatures import signed_headers, verified_id
from interlock.server.settings import Settings
from interlock.server.telemetry.metrics_recorder import CallResult, MetricsRecorder
from interlock.strict_json import canonical_json, portable_json

_log = structlog.get_logger("interlock.remote")

MAX_ANSWER_BYTES: Final = 4 * MAX_RESULT_BYTES
"""A result has at most 64 KiB without white space; it may be written with some."""

_FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
_NOTICE_S: Final = 5.0
_AT_ONCE: Final = 10_000
"""More than the limits of executions allow."""
_MS_PER_S: Final = 1000

_OK: Final = 200
_ACCEPTED: Final = 202
_TOO_MANY: Final = 429
_REDIRECTS: Final = range(300, 400)
_CLIENT_ERRORS: Final = range(400, 500)
_SERVER_ERRORS: Final = range(500, 600)


class Succeeded(msgspec.Struct, frozen=True):
    """A realm reports a result: any JSON."""

    result: Any


class Failed(msgspec.Struct, frozen=True):
    """A realm reports an error: a text that the owner of the execution may read."""

    error: str


class _Again(Exception):
    """The call failed, and may be repeated after ``pause_s`` at the earliest. ``because`` is for the server's log only."""

    def __init__(self, problem: str, *, because: str = "", pause_s: float = 0.0) -> None:
        self.because = because or problem
        self.pause_s = pause_s
        super().__init__(problem)


_Count: TypeAlias = Callable[[CallResult], None]


def _not_counted(_result: CallResult) -> None:
    """Count nothing: a notice is no call."""


class _Message(msgspec.Struct, frozen=True):
    """What the notice of a cancellation says, and a call, too."""

    execution_id: str
    intent_id: str
    name: str
    attempt: int


class _Call(_Message, frozen=True, kw_only=True):
    session_id: str
    subject: str
    groups: list[str]
    deadline: str
    fence: dict[str, int]
    parameters: Any


class _Running(msgspec.Struct, frozen=True):
    """An attempt that waits for its outcome. ``reported`` is done when a callback has brought it."""

    realm: str
    attempt: int
    reported: asyncio.Future[Succeeded | Failed]


class RemoteRealms:
    """Calls remote realms, and receives the outcomes that they report later.

    ``call`` makes the handlers of their intents, which run like the code of any other realm.
    """

    def __init__(self, destinations: Destinations, signing: RealmSecrets, clock: Clock) -> None:
        self._clients: dict[str, OutgoingClient] = {}
        self._destinations = destinations
        self._signing = signing
        self._clock = clock
        self.metrics = MetricsRecorder()
        self._realms: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._notices: set[asyncio.Task[None]] = set()

    @classmethod
    def over(cls, settings: Settings) -> RemoteRealms:
        """Return the remote realms of a server with ``settings``.

        Raises:
            SettingsError: ``outgoing_networks`` has something else than networks.
        """
        signing = RealmSecrets(Path(settings.data) / "keys")
        return cls(Destinations(settings.outgoing_networks), signing, SystemClock())

    def call(self, intent: RemoteIntent) -> Handler[JsonValue, Any]:
        """Return the handler of ``intent``.

        Raises:
            RealmInvalid: a URL of its realm is none.
        """
        for url, timeout_s in ((intent.url, MAX_TIMEOUT_S), (intent.cancel_url, _NOTICE_S)):
            if url and url not in self._clients:
                self._clients[url] = self._client(url, timeout_s)
        self._realms.add(intent.realm)

        async def handler(context: Context, parameters: JsonValue) -> Any:
            return await self._run(intent, context, parameters)

        return handler

    def authenticate(self, realm: str, signed: dict[str, str], body: bytes) -> str:
        """Return the execution id in a callback that ``realm`` has signed.

        Raises:
            WebhookSignatureInvalid: it is not signed with a secret of this realm, or there is no such remote realm.
            SettingsError: the realm's secrets can't be read.
        """
        if realm not in self._realms:
            # Not counted by realm: it is a name that the client chose.
            return verified_id([], signed, body, self._clock.now_ms())
        try:
            return verified_id(self._signing.texts(realm), signed, body, self._clock.now_ms())
        except WebhookSignatureInvalid:
            self.metrics.remote_callback(realm, "unsigned")
            raise

    def report(self, realm: str, execution_id: str, attempt: int, outcome: Succeeded | Failed) -> bool:
        """Give the running attempt its outcome. Return whether it has none yet: the first one counts.

        Raises:
            OutcomeTooLate: this attempt is not running, or is not this realm's.
        """
        running = self._running.get(execution_id)
        if running is None or (running.realm, running.attempt) != (realm, attempt):
            raise OutcomeTooLate(attempt)
        first = not running.reported.done()
        if first:
            running.reported.set_result(outcome)
        return first

    async def close(self) -> None:
        """Close all connections. Give up the notices of cancellation that are under way."""
        for notice in self._notices:
            notice.cancel()
        if self._notices:
            await asyncio.wait(self._notices)
        for client in self._clients.values():
            await client.close()

    def _client(self, url: str, timeout_s: float) -> OutgoingClient:
        try:
            return OutgoingClient(
                checked_url(url),
                self._destinations,
                timeout_s=timeout_s,
                at_once=_AT_ONCE,
                keep_alive=False,
                most_bytes=MAX_ANSWER_BYTES,
            )
        except SettingsError as error:
            raise RealmInvalid(f"url {url}: {error}") from None

    async def _run(self, intent: RemoteIntent, context: Context, parameters: JsonValue) -> Any:
        reported: asyncio.Future[Succeeded | Failed] = asyncio.get_running_loop().create_future()
        # Before the call, because its outcome may be reported before its answer arrives.
        self._running[context.execution_id] = _Running(intent.realm, context.attempt, reported)
        calling = asyncio.create_task(self._call(intent, context, parameters))
        try:
            either: list[asyncio.Future[Any]] = [calling, reported]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            outcome = reported.result() if reported.done() else calling.result()
            outcome = outcome or await reported
        except asyncio.CancelledError:
            # Not when the server stops: another attempt may follow, for which the realm may have the outcome already.
            if context.cancelled and intent.cancel_url:
                self._notify(intent, context)
            raise
        finally:
            calling.cancel()
            del self._running[context.execution_id]
            await asyncio.gather(calling, return_exceptions=True)
        if isinstance(outcome, Failed):
            raise IntentFailed(outcome.error)
        return outcome.result

    async def _call(self, intent: RemoteIntent, context: Context, parameters: JsonValue) -> Succeeded | Failed | None:
        """Call the realm, again and again as its effects allow. Return the outcome, None if the realm will report it.

        Raises:
            IntentFailed: there is no outcome, and no other try may follow.
        """
        message = _Call(
            context.execution_id,
            context.intent_id,
            intent.name,
            context.attempt,
            session_id=context.session_id,
            subject=context.subject,
            groups=sorted(context.groups),
            deadline=rfc3339(context.deadline_ms),
            fence={"position": context.fence.position, "attempt": context.fence.attempt},
            parameters=parameters.value,
        )
        body, tries = _encoded(message), 0
        call = intent, intent.url, context.execution_id, body
        count = partial(self.metrics.remote_call, intent.realm)
        while True:
            try:
                return _outcome(await self._post(*call, count), intent, context.execution_id, count)
            except _Again as again:
                pause_s = max(again.pause_s, _pause(tries))
                _log_failure(intent, context.execution_id, again.because)
                if self._clock.now_ms() + pause_s * _MS_PER_S >= context.deadline_ms:
                    raise IntentFailed(f"{again}, and there is no time for another try") from None
            await asyncio.sleep(pause_s)
            tries += 1

    async def _post(self, intent: RemoteIntent, url: str, message_id: str, body: bytes, count: _Count) -> Answer:
        """Post a signed message to ``url``. If there is no answer, ``count`` it.

        Raises:
            IntentFailed: the realm did not answer, and the effects forbid another try.
            _Again: it did not answer, and they allow one.
        """
        try:
            signing_secrets = self._signing.texts(intent.realm)
        except SettingsError as error:
            count("unreached")
            raise _Again("the realm was not called", because=str(error)) from None
        if not signing_secrets:
            count("unreached")
            raise _Again("the realm was not called", because="it has no secret: interlock realm-secrets add")
        now_ms = self._clock.now_ms()
        try:
            return await self._clients[url].post(
                signed_headers(signing_secrets, message_id, body, now_ms), body, now_ms
            )
        except Unreachable as error:
            count("unanswered" if error.sent else "unreached")
            if not error.sent:
                # Nothing can have happened, so this is no repetition, whatever the effects.
                raise _Again("the realm was not reached", because=str(error)) from None
            if intent.effects == "idempotent":
                raise _Again("the realm was called and did not answer", because=str(error)) from None
            _log_failure(intent, message_id, str(error))
            raise IntentFailed("the realm was called and did not answer; the effects may have happened") from None

    def _notify(self, intent: RemoteIntent, context: Context) -> None:
        """Tell the realm that its call is cancelled: once, and without a wait for it."""
        message = _Message(context.execution_id, context.intent_id, intent.name, context.attempt)
        notice = asyncio.create_task(self._post_notice(intent, message))
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _post_notice(self, intent: RemoteIntent, message: _Message) -> None:
        # An id of its own: a receiver that knows the id of the call would take this for a repeat.
        message_id = f"{message.execution_id}.{message.attempt}.cancel"
        try:
            await self._post(intent, intent.cancel_url, message_id, _encoded(message), _not_counted)
        except _Again as error:
            _log_failure(intent, message.execution_id, error.because)
        except IntentFailed:
            pass


def _encoded(message: _Message) -> bytes:
    # msgspec refuses integers of more than 64 bits, which parameters may have.
    return canonical_json(msgspec.structs.asdict(message)).encode()


def _log_failure(intent: RemoteIntent, execution_id: str, because: str) -> None:
    _log.warning("remote.failed", realm=intent.realm, execution_id=execution_id, because=because)


def _outcome(answer: Answer, intent: RemoteIntent, execution_id: str, count: _Count) -> Succeeded | Failed | None:
    """Return the outcome in ``answer``, None if the realm will report it, and ``count`` it.

    Raises:
        IntentFailed: there is none, and the call may not be repeated.
        _Again: there is none, and it may.
    """
    status = answer.status
    if status == _ACCEPTED:
        count("accepted")
        return None
    if status == _OK:
        outcome = outcome_in(answer.body)
        if outcome is None:
            count("unusable")
            problem = "the realm answered 200 without a result or an error"
            _log_failure(intent, execution_id, problem)
            raise IntentFailed(problem)
        count("outcome")
        return outcome
    count("refused")
    problem = f"the realm answered {status}"
    if (status in _SERVER_ERRORS or status == _TOO_MANY) and intent.effects == "idempotent":
        raise _Again(problem, pause_s=(answer.retry_after_ms or 0) / _MS_PER_S)
    said = outcome_in(answer.body)
    if isinstance(said, Failed):
        problem = f"{problem}: {said.error}"
    else:
        _log_failure(intent, execution_id, problem)
    if status in _SERVER_ERRORS:
        problem = f"{problem}; the effects may have happened"
    elif status not in _CLIENT_ERRORS:
        problem = f"{problem}, and redirects are not followed" if status in _REDIRECTS else f"{problem}, not 200 or 202"
    raise IntentFailed(problem)


def outcome_in(body: bytes) -> Succeeded | Failed | None:
    """Return the outcome in ``body``, the JSON of an object with either ``result`` or ``error``; None if there is none."""
    try:
        said = portable_json(body)
    except (ValueError, RecursionError):
        return None
    match said:
        case {"result": _, "error": _}:
            return None
        case {"result": result}:
            return Succeeded(result)
        case {"error": str(error)}:
            return Failed(error[:MAX_ERROR_CHARACTERS])
    return None


_random: Final = SystemRandom()


def _pause(tries: int) -> float:
    """Return the pause before another try: half of it at random, so that many executions don't come back at once."""
    longest = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries, 10))
    return _random.uniform(longest / 2, longest)
