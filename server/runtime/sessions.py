"""Sessions: their commands, submitted through the door."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from interlock.machine.errors import CredentialInvalid, Overloaded, SessionEnded, TransitionRefused
from interlock.machine.ledger import Receipt
from interlock.machine.machine import Authority
from interlock.machine.session.commands import (
    Authenticate,
    Create,
    Data,
    Policy,
    Reauthenticate,
    Refresh,
    RevocationReason,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE, authority_of
from interlock.machine.session.session import Session, ensure_alive, touch_due
from interlock.server.clock import Clock
from interlock.server.guard.session_devices.kept import Device, SessionDevices
from interlock.server.ids import new_session_id
from interlock.server.runtime.door import Change, Door, Recorded, commands
from interlock.server.runtime.feed import Feed
from interlock.server.surface.log import Along
from interlock.server.system.newest import keep_newest
from interlock.server.telemetry.model_trace import TraceWriter


class Sessions(Door[Session]):
    """All sessions. ``policy`` contains the limits of new ones. ``devices`` stores what logs in; None: nothing does."""

    def __init__(  # each by name
        self,
        feed: Feed,
        clock: Clock,
        *,
        policy: Policy,
        cache_limit: int,
        trace: TraceWriter | None = None,
        devices: SessionDevices | None = None,
    ) -> None:
        super().__init__(SESSION_MACHINE, feed, clock, cache_limit=cache_limit, trace=trace)
        self._policy = policy
        self._devices = devices
        self._touching: set[str] = set()
        # Session id → epoch, for sessions whose newest tokens were used for something that is not recorded.
        self._used: dict[str, int] = {}

    async def begin(
        self,
        actor: str,
        *more: Data,
        policy: Policy | None = None,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
        device: Device | None = None,
    ) -> Recorded[Session]:
        """Create a session under ``policy``, or the server's, and submit ``more`` to it, in one durable batch.

        ``device``: of the client, if ``actor`` is its account.
        """
        asked = commands(actor, Create(policy or self._policy), *more)
        session_id = new_session_id(self._clock.now_ms())
        along = self._with_device(session_id, actor, device, along)
        return await self.submit(session_id, *asked, under=under, along=along, joined=joined)

    async def refresh(  # what a refresh is of, and two options by name
        self,
        session_id: str,
        epoch: int,
        rotation: int,
        actor: str,
        *,
        under: Authority | None = None,
        device: Device | None = None,
    ) -> Recorded[Session]:
        """Exchange the refresh token of ``epoch`` and ``rotation``, whose MAC the guard has checked.

        A token that a single browser or program may still hold is exchanged: the newest one, one whose response was lost, or
        one exchanged within the grace. Every exchange returns a new token and makes a record. For any other token two parties
        hold copies, so the session is revoked (RFC 9700, 4.14.2).
        ``under`` is the account's authority; a guard compares the session's epoch. ``device``: as for :meth:`begin`.

        Raises:
            TokenExpired: ``under`` is no longer valid.
            SessionEnded: the session is not alive, or was just revoked because the token was reused.
            CredentialInvalid: the token is of an epoch before the session's last login.
        """
        try:
            asked = commands(actor, Refresh(epoch, rotation))
            along = self._with_device(session_id, actor, device)
            return await self.submit(session_id, *asked, under=under, along=along)
        except TransitionRefused:
            session = await self.load(session_id)
            ensure_alive(session, self._clock.now_ms())
            if epoch != session.epoch:
                raise CredentialInvalid("the refresh token was superseded by a later login") from None
            await self.end(session, "token_reuse", "server")
            # Another request may have ended it first, for another reason.
            raise SessionEnded((await self.load(session_id)).reason or "") from None

    async def touch(self, session: Session) -> Session:
        """Record activity in ``session``, at most once per tenth of the idle timeout.

        Raises:
            SessionEnded, TokenExpired: since the caller read the session, it has ended or had another login.
        """
        session_id = session.session_id
        # The cache may be newer than the caller's copy, and another request's touch may be in progress.
        if session_id in self._touching or not touch_due(self.cached(session_id) or session, self._clock.now_ms()):
            if session.unused:
                keep_newest(self._used, session_id, session.epoch, self._cache_limit)
            return session
        self._touching.add(session_id)
        try:
            actor = session.subject or "anonymous"
            return (await self._submit_alive(session_id, actor, Touch(), under=authority_of(session))).instance
        except Overloaded:
            # Reads still work. Without further activity the session ends as if this activity had not happened.
            return session
        finally:
            self._touching.discard(session_id)

    def is_unused(self, session: Session) -> bool:
        """Return whether no record and no activity since the start shows that the client has the current epoch's tokens."""
        return session.unused and self._used.get(session.session_id) != session.epoch

    async def authenticate(  # noqa: PLR0913  # the options by name
        self,
        session: Session | None,
        login: Authenticate,
        *,
        policy: Policy | None = None,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
        device: Device | None = None,
    ) -> Recorded[Session]:
        """Record ``login``: upgrade ``session``, or create one that belongs to the subject from its first moment.

        ``policy``: that of a new session, if not the server's. ``device``: the client's. ``under``, ``along``, ``joined``: as
        for :meth:`submit`.

        Raises:
            SessionEnded: the session has ended since the caller read it.
            CredentialRefused: ``under`` is no longer valid.
            TransitionRefused: the session belongs to another subject.
        """
        subject = login.subject
        if session is None:
            return await self.begin(
                subject, login, policy=policy, under=under, along=along, joined=joined, device=device
            )
        along = self._with_device(session.session_id, subject, device, along)
        if session.subject is None:
            with suppress(TransitionRefused):
                asked = commands(subject, login)
                return await self.submit(session.session_id, *asked, under=under, along=along, joined=joined)
            # Another tab may have logged in on the same session: a reauthentication succeeds for the same subject, and
            # otherwise gives a better reason.
        again = Reauthenticate(subject, login.method, login.auth_age_ms, login.account_epoch)
        return await self._submit_alive(session.session_id, subject, again, under=under, along=along, joined=joined)

    async def end(
        self, session: Session, reason: RevocationReason, actor: str, *, under: Authority | None = None
    ) -> Receipt | None:
        """Revoke ``session``. Return None if it had already ended.

        ``under``: as for :meth:`submit`. Of two calls that each end the other's session, under their own, one fails.

        Raises:
            CredentialRefused: ``under`` is no longer valid.
        """
        with suppress(TransitionRefused):
            return (await self.submit(session.session_id, *commands(actor, Revoke(reason)), under=under)).receipt
        return None

    def _with_device(
        self, session_id: str, subject: str, device: Device | None, along: Along | None = None
    ) -> Along | None:
        """Return what stores ``device`` and does ``along`` in one transaction, None for nothing."""
        seen = None if self._devices is None else self._devices.seen(session_id, subject, device)
        if seen is None or along is None:
            return seen or along

        def both(connection: Any) -> None:
            along(connection)
            seen(connection)

        return both

    async def _submit_alive(
        self,
        session_id: str,
        actor: str,
        data: Data,
        *,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
    ) -> Recorded[Session]:
        """Submit ``data``. If the session has just ended, raise SessionEnded instead of TransitionRefused."""
        try:
            return await self.submit(session_id, *commands(actor, data), under=under, along=along, joined=joined)
        except TransitionRefused:
            ensure_alive(await self.load(session_id), self._clock.now_ms())
            raise
