"""Sessions: what is asked of them, as commands at the door."""

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
from interlock.server.ids import new_session_id
from interlock.server.runtime.door import Change, Door, Outcome, commands, keep_newest
from interlock.server.runtime.feed import Feed
from interlock.server.surface.log import Along
from interlock.server.telemetry.trace import Untraced


class Sessions(Door[Session]):
    """All sessions. ``policy``: the limits that a new one lives under."""

    def __init__(
        self, feed: Feed, clock: Clock, *, policy: Policy, cache_limit: int, trace: Untraced | None = None
    ) -> None:
        super().__init__(SESSION_MACHINE, feed, clock, cache_limit=cache_limit, trace=trace)
        self._policy = policy
        self._touching: set[str] = set()
        # Sessions whose newest login's tokens were used for what is not recorded, and the epoch of that login.
        self._used: dict[str, int] = {}

    async def begin(
        self,
        actor: str,
        *more: Data,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
    ) -> Outcome[Session]:
        """Create a session under the server's policy and submit ``more`` to it, all in one durable batch."""
        asked = commands(actor, Create(self._policy), *more)
        session_id = new_session_id(self._clock.now_ms())
        return await self.submit(session_id, *asked, under=under, along=along, joined=joined)

    async def refresh(self, session_id: str, epoch: int, rotation: int, actor: str) -> Outcome[Session]:
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
            SessionEnded, TokenExpired: since the caller looked it has ended, or somebody has logged in on it.
        """
        session_id = session.session_id
        # What is in memory may be newer than what the caller holds, and another request's touch may be under way.
        if session_id in self._touching or not touch_due(self.cached(session_id) or session, self._clock.now_ms()):
            if session.unused:
                keep_newest(self._used, session_id, session.epoch, self._cache_limit)
            return session
        self._touching.add(session_id)
        try:
            actor = session.subject or "anonymous"
            return (await self._submit_alive(session_id, actor, Touch(), under=authority_of(session))).instance
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
        login: Authenticate,
        *,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
    ) -> Outcome[Session]:
        """Somebody has proved who they are: upgrade ``session``, or begin one that is theirs from its first moment.

        ``under``, ``along``, ``joined``: as for :meth:`submit`.

        Raises:
            SessionEnded: the session ended since the caller looked.
            CredentialRefused: ``under`` does not hold any more.
            TransitionRefused: the session is another subject's.
        """
        subject = login.subject
        if session is None:
            return await self.begin(subject, login, under=under, along=along, joined=joined)
        if session.subject is None:
            with suppress(TransitionRefused):
                asked = commands(subject, login)
                return await self.submit(session.session_id, *asked, under=under, along=along, joined=joined)
            # Another tab may have logged in on the same session meanwhile: then this is the same subject once more, or
            # a refusal with a better reason.
        again = Reauthenticate(subject, login.method, login.proof_age_ms, login.account_epoch)
        return await self._submit_alive(session.session_id, subject, again, under=under, along=along, joined=joined)

    async def end(
        self, session: Session, reason: RevocationReason, actor: str, *, under: Authority | None = None
    ) -> Receipt | None:
        """Revoke ``session``; None when it had ended already.

        ``under``: as for :meth:`submit`. Of two calls that each end the other's session, under their own, one fails.

        Raises:
            CredentialRefused: ``under`` does not hold any more.
        """
        with suppress(TransitionRefused):
            return (await self.submit(session.session_id, *commands(actor, Revoke(reason)), under=under)).receipt
        return None

    async def _submit_alive(
        self,
        session_id: str,
        actor: str,
        data: Data,
        *,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
    ) -> Outcome[Session]:
        """What becomes of ``data``; when the session has just ended, the caller hears that, not that it is refused."""
        try:
            return await self.submit(session_id, *commands(actor, data), under=under, along=along, joined=joined)
        except TransitionRefused:
            ensure_alive(await self.load(session_id), self._clock.now_ms())
            raise
