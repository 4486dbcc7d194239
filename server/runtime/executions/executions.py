"""Executions: their acceptance under a session's authority, and who may read them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Final

import msgspec

from interlock.intents import canonical_parameters, check_intent_id
from interlock.machine.account.commitments import KEY_BYTES
from interlock.machine.errors import (
    AuthorityLost,
    ExecutionNotFound,
    IntentReused,
    NestedTooDeep,
    NotAuthenticated,
    TransitionRefused,
)
from interlock.machine.execution.commands import Accept, execution_id_of
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Receipt
from interlock.machine.machine import Authority
from interlock.machine.session.machine import authority_in
from interlock.machine.session.session import Session, ensure_alive
from interlock.realm import Realms
from interlock.server.clock import Clock
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import Door, commands
from interlock.server.runtime.executions.live import ExecutionLimits, LiveExecutions
from interlock.server.runtime.executions.recording import DataBeingRecorded
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.directory import Cursor, Directory, InstanceFilter
from interlock.server.surface.executions import ExecutionData, ExecutionStore
from interlock.server.system.turns import Turns
from interlock.server.telemetry.model_trace import TraceWriter

__all__ = ["Acceptance", "Cursor", "Execution", "ExecutionData", "Executions"]
"""Includes two types of the surface, which the experience uses but may not import from there."""


class _Submission(msgspec.Struct, frozen=True):
    """A submitted intent, whose parameters are canonical JSON."""

    session_id: str
    subject: str
    intent_id: str
    name: str
    parameters: str
    parent: Execution | None
    execution_id: str


class Acceptance(msgspec.Struct, frozen=True):
    """The answer to an intent: its execution, and the receipt of the record of its acceptance.

    ``repeated``: the intent had been accepted before; nothing was recorded now.
    """

    execution: Execution
    receipt: Receipt
    repeated: bool


class Executions(Door[Execution]):
    """All executions."""

    def __init__(  # noqa: PLR0913  # what it works with, most by name
        self,
        feed: Feed,
        clock: Clock,
        sessions: Sessions,
        accounts: Accounts,
        *,
        realms: Realms,
        store: ExecutionStore,
        directory: Directory,
        limits: ExecutionLimits,
        cache_limit: int,
        trace: TraceWriter | None = None,
    ) -> None:
        super().__init__(EXECUTION_MACHINE, feed, clock, cache_limit=cache_limit, trace=trace)
        self.realms: Final = realms
        self.store: Final = store
        self.live: Final = LiveExecutions(limits)
        self.recording: Final = DataBeingRecorded()
        self._sessions = sessions
        self._accounts = accounts
        self._directory = directory
        self.accepting: Final[set[asyncio.Task[Acceptance]]] = set()
        """The acceptances in progress. Each goes on when its caller is cancelled, and ends when the log has answered."""
        # Acceptances of one id take turns, so that a repeat never counts against a limit, and finds what is being recorded.
        self._accepting = Turns()
        feed.remember(EXECUTION_MACHINE.kind, self.live.observe)

    async def accept(
        self,
        session: Session,
        under: Authority,
        intent_id: str,
        name: str,
        parameters: bytes,
        *,
        parent: Execution | None = None,
    ) -> Acceptance:
        """Accept the intent ``name`` with the JSON ``parameters``, which ``session`` submits under the authority ``under``.

        The same account's same ``intent_id`` names the same execution, also while it runs: a repeat records nothing. ``parent``
        is the execution whose code submits the intent; None for a client.

        Raises:
            NotAuthenticated: the session is anonymous.
            IntentUnknown: no realm handles ``name``.
            IntentIdRefused: the id is malformed.
            ParametersRefused: the parameters are malformed or too large; the error names the field.
            RoleMissing: the session's account has none of the intent's roles.
            IntentReused: the account used ``intent_id`` for another intent or for other parameters.
            TooManyExecutions: the session, the account or the realm has reached its limit of executions without an outcome.
            NestedTooDeep: the chain of parents has reached its limit.
            CredentialRefused: ``under`` is no longer valid.
            Overloaded, StorageLow, RecordRefused, SurfaceFailed: nothing was acknowledged.
        """
        if session.subject is None:
            raise NotAuthenticated("an anonymous session can't submit intents")
        if parent is None:
            check_intent_id(intent_id)
        execution_id = execution_id_of(session.subject, intent_id)
        asked = _Submission(
            session.session_id, session.subject, intent_id, name, canonical_parameters(parameters), parent, execution_id
        )
        # A caller that is cancelled does not undo what was handed to the log, so the reservation must last until its answer.
        accepting = asyncio.create_task(self._accept_in_turn(asked, under))
        self.accepting.add(accepting)
        accepting.add_done_callback(self.accepting.discard)
        return await asyncio.shield(accepting)

    async def owned(self, session: Session, execution_id: str) -> Execution:
        """Return the current execution.

        Raises:
            ExecutionNotFound: there is none, or it is another account's.
        """
        execution = await self.load(execution_id)
        if session.subject is None or execution.subject != session.subject:
            raise ExecutionNotFound(execution_id)
        return execution

    async def data(self, execution_id: str) -> ExecutionData:
        """Return the parameters and the result of an execution, as JSON, and the text of its error.

        Raises:
            ExecutionNotFound: there is none, or its account was deleted.
            SurfaceFailed: they are not what the execution's records commit to.
        """
        self.check_alive()
        data = await self.store.by_id(execution_id)
        if data is None:
            raise ExecutionNotFound(execution_id)
        return data

    async def page(self, session: Session, before: Cursor | None, limit: int) -> list[Execution]:
        """Return at most ``limit`` executions of the session's account, newest first, that come after ``before``."""
        if session.subject is None:
            return []
        return await self.page_of_all(InstanceFilter(owner=session.subject), before, limit)

    async def page_of_all(self, wanted: InstanceFilter, before: Cursor | None, limit: int) -> list[Execution]:
        """Return a page of the executions of all accounts, newest first."""
        self.check_alive()
        return await self._directory.page(EXECUTION_MACHINE, wanted, before, limit)

    async def receipt(self, execution: Execution) -> Receipt:
        """Return the receipt of the execution's last record."""
        (record,) = await self.history(execution.execution_id, execution.version - 1, 1)
        return record.receipt

    async def standing(self, session_id: str) -> tuple[Session, Authority]:
        """Return a session that is alive and that its account still allows, and its authority at any epoch of its own.

        Raises:
            SessionEnded: the session has ended, or its account does not allow it any more.
        """
        session = await self._sessions.load(session_id)
        ensure_alive(session, self._clock.now_ms())
        await self._accounts.ensure_serves(session)
        return session, authority_in(session)

    async def ensure_valid(self, under: Authority) -> None:
        """Check that ``under``, a session's authority, is valid now.

        Raises:
            CredentialRefused: it is not.
        """
        await self._sessions.explain_lost(under)
        await self.standing(under.instance_id)

    async def groups(self, subject: str) -> frozenset[str]:
        """Return the present groups of an account."""
        return frozenset((await self._accounts.standing(subject)).groups)

    async def _accept_in_turn(self, asked: _Submission, under: Authority) -> Acceptance:
        await self._accepting.take(asked.execution_id)
        try:
            with suppress(ExecutionNotFound):
                return await self._recorded(asked)
            return await self._accept(asked, under)
        finally:
            self._accepting.give(asked.execution_id)

    async def _accept(self, asked: _Submission, under: Authority) -> Acceptance:
        intent = self.realms.intent(asked.name)
        intent.ensure_allowed(await self.groups(asked.subject))
        intent.decode_parameters(asked.parameters.encode())
        if asked.parent is not None:
            await self._check_depth(asked.parent)
        execution_id = asked.execution_id
        data = ExecutionData(execution_id, secrets.token_bytes(KEY_BYTES), asked.parameters)
        accept = Accept(
            asked.session_id,
            asked.subject,
            intent.realm,
            intent.name,
            asked.intent_id,
            data.fingerprint,
            intent.effects,
            intent.on_session_end,
            intent.timeout_ms,
            None if asked.parent is None else asked.parent.execution_id,
        )
        self.live.reserve(execution_id, asked.session_id, asked.subject, intent.realm)
        try:
            along = self.store.add(data)
            with self.recording.hold(data):
                outcome = await self.submit(execution_id, *commands(asked.subject, accept), under=under, along=along)
        except TransitionRefused:
            # Another server process has just accepted it.
            return await self._recorded(asked)
        except AuthorityLost:
            await self.standing(asked.session_id)
            raise
        finally:
            self.live.release(execution_id)
        return Acceptance(outcome.instance, outcome.records[0].receipt, repeated=False)

    async def _recorded(self, asked: _Submission) -> Acceptance:
        """Return the answer to a repeat of an intent.

        Raises:
            ExecutionNotFound: the intent was not accepted before.
            IntentReused: the id was accepted with another intent, or with other parameters.
        """
        execution = await self.load(asked.execution_id)
        if execution.intent != asked.name or (await self.data(asked.execution_id)).parameters != asked.parameters:
            raise IntentReused
        (accepted,) = await self.history(asked.execution_id, 0, 1)
        return Acceptance(execution, accepted.receipt, repeated=True)

    async def _check_depth(self, parent: Execution) -> None:
        """Check that ``parent`` may submit another execution.

        Raises:
            NestedTooDeep: the chain of its parents is too long.
        """
        depth, each = 1, parent
        while each.parent is not None and depth < self.live.limits.depth:
            depth, each = depth + 1, await self.load(each.parent)
        if depth >= self.live.limits.depth:
            raise NestedTooDeep(self.live.limits.depth)
