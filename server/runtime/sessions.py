"""The one door: every change of every session passes :meth:`Sessions.submit`, and nothing else changes one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from interlock.machine.commands import (
    Authenticate,
    Command,
    Create,
    Data,
    Policy,
    Reauthenticate,
    Refresh,
    RevocationReason,
    Revoke,
    Touch,
)
from interlock.machine.errors import (
    CredentialInvalid,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    SurfaceFailed,
    TransitionRefused,
    VersionConflict,
)
from interlock.machine.ledger import Receipt, Record
from interlock.machine.session import Session, absent, decide, ensure_alive, evolve, touch_due
from interlock.server.clock import Clock
from interlock.server.ids import new_session_id, next_id
from interlock.server.runtime.guarded import guarded
from interlock.server.runtime.turns import Turns
from interlock.server.surface.log import Along, Step, TransitionLog
from interlock.server.system.workers import settle
from interlock.server.telemetry.trace import Untraced

T = TypeVar("T")

Listener = Callable[[Record, Session], None]
"""Told of every recorded transition and the session after it, on the event loop, in the order of each session."""

RefusalListener = Callable[[str, TransitionRefused], None]
"""Told, on the event loop, of every refused command's session id and refusal."""

_CONFLICT_RETRIES: Final = 3

_OWN_WRITES: Final = 64
"""How many writes of the server itself are under way. Their callbacks run in one turn of the event loop, a few milliseconds."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of commands: the session as it stands now, and what they recorded (nothing for a repeat)."""

    session: Session
    records: list[Record]

    @property
    def receipt(self) -> Receipt | None:
        """That of the last record; by the chain it covers the ones before. None when nothing was recorded."""
        return self.records[-1].receipt if self.records else None


class Sessions:
    """All sessions. Commands to one session are taken in turn; commands to different ones are written together.

    ``cache_limit``: how many sessions are kept in memory; the rest are one read away. ``trace`` hears of every answer.
    """

    def __init__(
        self, log: TransitionLog, clock: Clock, *, policy: Policy, cache_limit: int, trace: Untraced | None = None
    ) -> None:
        self._log = log
        self._clock = clock
        self._policy = policy
        self._cache_limit = cache_limit
        self._trace = trace or Untraced()
        self._cache: dict[str, Session] = {}
        self._turns = Turns()
        self._listeners: list[Listener] = []
        self._refusal_listeners: list[RefusalListener] = []
        self._touching: set[str] = set()
        # Sessions whose newest login's tokens were used for what is not recorded, and the epoch of that login.
        self._used: dict[str, int] = {}
        self._own_writes = asyncio.Semaphore(_OWN_WRITES)

    def subscribe(self, listener: Listener) -> None:
        """Have ``listener`` told of every transition from now on, after those that subscribed before."""
        self._listeners.append(listener)

    def subscribe_refusals(self, listener: RefusalListener) -> None:
        """Have ``listener`` told of every refusal from now on."""
        self._refusal_listeners.append(listener)

    @property
    def failure(self) -> str | None:
        """Why nothing more is acknowledged, or None while all is well."""
        return self._log.failure

    def check_alive(self) -> None:
        """Refuse once the log has stopped: memory may then hold what disk does not.

        Raises:
            SurfaceFailed: the log stopped at an I/O error.
        """
        if self._log.failure is not None:
            raise SurfaceFailed(self._log.failure)

    def cached(self, session_id: str) -> Session | None:
        """The current session if it is in memory. It is exact: memory changes only with the log."""
        self.check_alive()
        return self._cache.get(session_id)

    async def load(self, session_id: str) -> Session:
        """The current session.

        Raises:
            SessionNotFound: there is none.
            SurfaceFailed: the log has stopped.
        """
        session = self.cached(session_id)
        if session is not None:
            return session
        # In turn with the session's commands, so that what is read can't be older than what memory held and dropped.
        await self._turns.take(session_id)
        try:
            return await self._read(session_id)
        finally:
            self._turns.give(session_id)

    async def history(self, session_id: str, after_version: int, limit: int) -> list[Record]:
        """At most ``limit`` records of the session with a version above ``after_version``, oldest first."""
        self.check_alive()
        return await self._log.history(session_id, after_version, limit)

    async def records(self, after: int, limit: int) -> list[Record]:
        """At most ``limit`` records of all sessions with a position above ``after``, oldest first."""
        self.check_alive()
        return await self._log.after(after, limit)

    async def begin(self, actor: str, *more: Data, along: Along | None = None) -> Outcome:
        """Create a session under the server's policy and submit ``more`` to it, all in one durable batch."""
        session_id = new_session_id(self._clock.now_ms())
        return await self.submit(session_id, *commands(actor, Create(self._policy), *more), along=along)

    async def submit(self, session_id: str, *asked: Command, along: Along | None = None) -> Outcome:
        """Decide ``asked`` in order, record them durably as one batch, then tell the listeners. All happen, or none.

        ``along`` is checked or written in the same transaction; what it raises is raised here, and nothing happened.

        A command id that is already recorded for the session appends nothing: the session as it stands is returned, and what
        was recorded then. Cancelling the caller does not undo what was handed to the log, and the listeners are told of it
        all the same.

        Raises:
            TransitionRefused: the lifecycle does not allow one of them; nothing changed.
            SessionNotFound: there is no such session, and the first command does not create it.
            RecordRefused, SurfaceFailed, Overloaded: nothing was acknowledged.
        """
        for attempt in range(_CONFLICT_RETRIES):
            try:
                outcome = await self._submit_once(session_id, asked, along, first_try=attempt == 0)
            except VersionConflict:
                self._cache.pop(session_id, None)
            else:
                self._trace.acknowledged(session_id, outcome.session.version, outcome.records)
                return outcome
        raise SurfaceFailed("the session kept changing under another writer")

    async def insist(self, session_id: str, actor: str, data: Data) -> Outcome:
        """Submit what has to be written in the end; while the storage is overloaded, wait and try again.

        Only a few callers try at a time, the others wait for them. So the server's own work, of which there may be as much as
        there are sessions, neither adds to an overload nor keeps the event loop. Not for requests: they need an answer in
        time, and would keep the server's own work waiting.

        Raises:
            TransitionRefused, SessionNotFound, RecordRefused, SurfaceFailed: as :meth:`submit`.
        """
        asked = commands(actor, data)
        async with self._own_writes:
            return await patiently(lambda: self.submit(session_id, *asked))

    async def refresh(self, session_id: str, epoch: int, rotation: int, actor: str) -> Outcome:
        """Answer the refresh token of ``epoch`` and ``rotation``, whose MAC the guard has checked.

        One that a single browser or program may still hold is exchanged: the newest, one whose answer was lost, one that
        was exchanged within the grace. Every answer is a new token and a record. Any other is in two hands, so the session
        is revoked (RFC 9700, 4.14.2).

        Raises:
            SessionEnded: the session is not alive, or has just been revoked because the token was reused.
            CredentialInvalid: the token is of an epoch before the session's last login.
        """
        try:
            return await self.submit(session_id, *commands(actor, Refresh(epoch, rotation)))
        except TransitionRefused:
            session = await self.load(session_id)
            ensure_alive(session, self._clock.now_ms())
            if epoch != session.epoch:
                raise CredentialInvalid("the refresh token was superseded by a later login") from None
            await self.end(session, "token_reuse", "server")
            # Somebody else may have ended it first, for a reason of their own.
            raise SessionEnded((await self.load(session_id)).reason or "") from None

    async def touch(self, session: Session) -> Session:
        """Note activity in ``session``: recorded at most once per tenth of the idle timeout, otherwise free.

        Raises:
            SessionEnded: it ended since the caller looked.
        """
        session_id = session.session_id
        # What is in memory may be newer than what the caller holds, and another request's touch may be under way.
        if session_id in self._touching or not touch_due(self.cached(session_id) or session, self._clock.now_ms()):
            if session.unused:
                keep_newest(self._used, session_id, session.epoch, self._cache_limit)
            return session
        self._touching.add(session_id)
        try:
            return (await self._submit_alive(session_id, session.subject or "anonymous", Touch())).session
        except Overloaded:
            # Whoever only reads is answered. The session ends when it would have without this activity, unless there is more.
            return session
        finally:
            self._touching.discard(session_id)

    def is_unused(self, session: Session) -> bool:
        """Whether nothing shows that somebody has the tokens of the current epoch: no record, nor activity since the start."""
        return session.unused and self._used.get(session.session_id) != session.epoch

    async def authenticate(
        self,
        session: Session | None,
        subject: str,
        method: str,
        *,
        proof_age_ms: int | None = 0,
        along: Along | None = None,
    ) -> Outcome:
        """``subject`` has proved who they are: upgrade ``session``, or begin one that is theirs from its first moment.

        ``proof_age_ms``: how long ago they proved it, or None when nobody knows. ``along``: as for :meth:`submit`.

        Raises:
            SessionEnded: the session ended since the caller looked.
            TransitionRefused: the session is another subject's.
        """
        login = Authenticate(subject, method, proof_age_ms)
        if session is None:
            return await self.begin(subject, login, along=along)
        if session.subject is None:
            with suppress(TransitionRefused):
                return await self.submit(session.session_id, *commands(subject, login), along=along)
            # Another tab may have logged in on the same session meanwhile: then this is the same subject once more, or
            # a refusal with a better reason.
        again = Reauthenticate(subject, method, proof_age_ms)
        return await self._submit_alive(session.session_id, subject, again, along)

    async def end(
        self, session: Session, reason: RevocationReason, actor: str, *, kept: Session | None = None
    ) -> Receipt | None:
        """Revoke ``session``; None when it had ended already.

        ``kept``: revoke only if this session has not ended, checked in the same transaction. Of two calls that each end the
        other's session, one fails.

        Raises:
            SessionEnded: ``kept`` has ended.
        """
        along = self._log.lives(kept.session_id) if kept is not None else None
        with suppress(TransitionRefused):
            return (await self.submit(session.session_id, *commands(actor, Revoke(reason)), along=along)).receipt
        return None

    async def _submit_alive(self, session_id: str, actor: str, data: Data, along: Along | None = None) -> Outcome:
        """What becomes of ``data``; when the session has just ended, the caller hears that, not that it is refused."""
        try:
            return await self.submit(session_id, *commands(actor, data), along=along)
        except TransitionRefused:
            ensure_alive(await self.load(session_id), self._clock.now_ms())
            raise

    async def _submit_once(
        self, session_id: str, asked: tuple[Command, ...], along: Along | None, *, first_try: bool
    ) -> Outcome:
        await self._turns.take(session_id)
        try:
            before = await self._read_for(session_id, asked[0], first_try=first_try)
            first, *rest = self._decide(before, asked)
            steps = [Step(first.transition, first.session, along), *rest]
            appended = self._log.append(steps)
        except BaseException as error:
            self._turns.give(session_id)
            if isinstance(error, TransitionRefused):
                for listener in self._refusal_listeners:
                    guarded(listener, session_id, error)
            raise
        # The session's turn ends, and the listeners hear of it, when the log answers: also if the caller is gone by then. So
        # the caller waits for a future of its own, whose cancellation is not the append's.
        answered: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        appended.add_done_callback(lambda future: self._settle(future, steps, answered))
        records = await answered
        if records[0].transition is not steps[0].transition:
            return Outcome(await self.load(session_id), records)
        return Outcome(steps[-1].session, records)

    async def _read(self, session_id: str) -> Session:
        """The current session, for whoever holds its turn."""
        session = self.cached(session_id) or await self._log.load(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        return self._remember(session)

    async def _read_for(self, session_id: str, first: Command, *, first_try: bool) -> Session:
        if not isinstance(first.data, Create):
            return await self._read(session_id)
        if first_try:
            # A new id is almost surely new: save the read, and let the append find out if it is not.
            return self.cached(session_id) or absent(session_id)
        with suppress(SessionNotFound):
            return await self._read(session_id)
        return absent(session_id)

    def _decide(self, session: Session, asked: tuple[Command, ...]) -> list[Step]:
        now_ms = self._clock.now_ms()
        steps = []
        for command in asked:
            transition = decide(session, command, now_ms)
            session = evolve(session, transition)
            steps.append(Step(transition, session))
        return steps

    def _settle(
        self, appended: asyncio.Future[list[Record]], steps: list[Step], answered: asyncio.Future[list[Record]]
    ) -> None:
        session_id = steps[0].transition.session_id
        try:
            error = appended.exception()
            if error is not None:
                # An overloaded log has queued nothing, so memory is still exact. To drop it would add a read to the overload.
                if not isinstance(error, Overloaded):
                    self._cache.pop(session_id, None)
                return
            records = appended.result()
            if records[0].transition is not steps[0].transition:
                # A repeat: what was recorded then says nothing of where the session stands now.
                self._cache.pop(session_id, None)
                return
            self._remember(steps[-1].session)
            for record, step in zip(records, steps, strict=True):
                for listener in self._listeners:
                    guarded(listener, record, step.session)
        finally:
            self._turns.give(session_id)
            settle([answered], [appended.exception() or appended.result()])

    def _remember(self, session: Session) -> Session:
        keep_newest(self._cache, session.session_id, session, self._cache_limit)
        return session


def keep_newest(memory: dict[str, T], key: str, value: T, limit: int) -> None:
    """Put ``value`` into ``memory``; of more than ``limit`` the oldest is forgotten."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > limit:
        del memory[next(iter(memory))]


async def patiently(call: Callable[[], Awaitable[T]], within_s: float | None = None) -> T:
    """Return what ``call`` gives; while the storage is overloaded, wait and call again.

    Raises:
        Overloaded: it still was after ``within_s`` seconds. None, for the server's own work, waits without end.
    """
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await call()
                except Overloaded as overloaded:
                    await asyncio.sleep(overloaded.retry_after_s)
    except TimeoutError:
        raise Overloaded from None


def commands(actor: str, *asked: Data) -> tuple[Command, ...]:
    """``asked`` as commands of ``actor``, each with a new id."""
    return tuple(Command(next_id("cmd"), actor, data) for data in asked)
