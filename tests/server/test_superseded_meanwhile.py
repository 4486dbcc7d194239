"""A credential is superseded while a call with it is in progress: the call takes effect before that, or is refused.

The log has one order. In each test the login, or the end, that takes the authority away reaches the session first, after
the credential was verified; the call must not be in the log after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from interlock.machine.account.commands import ChangePassword, Delete, Disable, Enable
from interlock.machine.errors import CredentialMissing, TokenExpired, TransitionRefused
from interlock.machine.execution.commands import execution_id_of
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Authenticate, Reauthenticate, Revoke
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.runtime.browser_sessions import Presented
from interlock.server.runtime.door import Recorded, commands
from interlock.server.services import Services
from tests.support import errands
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD
from tests.support.inside import client_of
from tests.support.running import eventually
from tests.support.wire import Wire, services_in

INTENT: Final[dict[str, Any]] = {"id": "x", "name": "errands.say", "parameters": {"text": "x"}}


class House(msgspec.Struct):
    """Ada, logged in twice: ``own`` is the calling session, with ``headers``."""

    services: Services
    http: httpx.AsyncClient
    own: Session
    other: Session
    headers: dict[str, str]

    @property
    def execution_id(self) -> str:
        return execution_id_of(self.own.subject or "", INTENT["id"])

    async def records(self) -> list[Record]:
        return await self.services.sessions.records(0, 1000)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    # Every request must be recorded as activity, so that there is something to refuse.
    async with (
        services_in(folder, errands.realm, idle_timeout_s=36_000) as services,
        client_of(app_over(services)) as http,
    ):
        account = await services.logins.register("ada@example.org", PASSWORD, "somewhere")
        login = Authenticate(account.account_id, "password")
        own = (await services.sessions.begin(account.account_id, login)).instance
        other = (await services.sessions.begin(account.account_id, login)).instance
        headers = {"authorization": f"Bearer {services.tokens.access_token(own)}"}
        yield House(services, http, own, other, headers)


async def _connect(house: House) -> tuple[bool, object]:
    wire = Wire(house.services, house.services.tokens.access_token(house.own))
    running = asyncio.ensure_future(wire.run())
    await eventually(lambda: len(wire.said) > 1 or running.done())
    wire.leave()
    await running
    return any("hello" in each for each in wire.said), wire.said


def _http(method: str, path: str, body: object = None) -> Callable[[House], Awaitable[tuple[bool, object]]]:
    async def call(house: House) -> tuple[bool, object]:
        path_of = path.format(own=house.own.session_id, other=house.other.session_id)
        answer = await house.http.request(method, path_of, headers=house.headers, json=body)
        return answer.is_success, (answer.status_code, answer.text)

    return call


async def _refresh(house: House) -> tuple[bool, object]:
    body = {"refresh_token": house.services.tokens.refresh_token(house.own)}
    answer = await house.http.post("/api/auth/refresh", json=body)
    return answer.is_success, (answer.status_code, answer.text)


CALLS: Final[dict[str, Callable[[House], Awaitable[tuple[bool, object]]]]] = {
    "connect": _connect,
    "refresh": _refresh,
    "a ticket": _http("POST", "/api/session/ticket"),
    "end another session": _http("DELETE", "/api/sessions/{other}"),
    "end all other sessions": _http("DELETE", "/api/sessions"),
    "end the own session": _http("DELETE", "/api/sessions/{own}"),
    "submit an intent": _http("POST", "/api/intents", INTENT),
    "change the password": _http(
        "POST", "/api/auth/password", {"current_password": PASSWORD, "new_password": "another long password of hers"}
    ),
}
"""Every call that changes a session or an execution under a session's authority. Logout is not one: it only ends a session."""

ENDS: Final = {
    "a login": Reauthenticate,
    "an end": Revoke,
}


@pytest.mark.checks("authority_at_append")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
@asynchronous
async def test_a_superseded_credentials_call_is_not_recorded_afterwards(tmp_path: Path, call: str, end: str) -> None:
    async with house(tmp_path) as ada:
        sessions, own = ada.services.sessions, ada.own
        taken = Reauthenticate(own.subject or "", "password") if end == "a login" else Revoke("revoked")
        # The session is busy; first the login, or the end, waits for it, then the call with a still valid credential.
        for each in (own.session_id, ada.other.session_id):
            await sessions.turns.take(each)
        await ada.services.executions.turns.take(ada.execution_id)
        superseding = asyncio.ensure_future(sessions.submit(own.session_id, *commands("elsewhere", taken)))
        await asyncio.sleep(0)
        calling = asyncio.ensure_future(CALLS[call](ada))
        await _waits_or_is_done(ada, calling, behind=1)
        sessions.turns.give(own.session_id)
        receipt = (await superseding).receipt
        sessions.turns.give(ada.other.session_id)
        ada.services.executions.turns.give(ada.execution_id)
        succeeded, said = await calling
        assert receipt is not None
        after = [record for record in await ada.records() if record.position > receipt.position]
        assert [record.transition.event for record in after if record.transition.actor == own.subject] == [], said
        assert not succeeded or call == "a ticket", said
        if succeeded:
            # It was issued before; it opens nothing any more.
            assert "ticket" in str(said)


ACCOUNT_ENDS: Final[dict[str, Any]] = {"a disable": Disable, "a delete": Delete, "another password": ChangePassword}


@pytest.mark.checks("authority_at_append")
@pytest.mark.parametrize("end", ACCOUNT_ENDS)
@pytest.mark.parametrize("call", CALLS)
@asynchronous
async def test_a_call_is_not_recorded_after_its_account_lost_its_rights(tmp_path: Path, call: str, end: str) -> None:
    async with house(tmp_path) as ada:
        services, subject = ada.services, ada.own.subject or ""
        account = (await services.accounts.by_id(subject) or pytest.fail("no account")).account
        # The call waits behind the session's turn, or that of the new execution, with a still valid credential.
        for each in (ada.own.session_id, ada.other.session_id):
            await services.sessions.turns.take(each)
        await services.executions.turns.take(ada.execution_id)
        calling = asyncio.ensure_future(CALLS[call](ada))
        await _waits_or_is_done(ada, calling)
        taken = ChangePassword(account.password or "", "B" * 43) if end == "another password" else ACCOUNT_ENDS[end]()
        superseding = asyncio.ensure_future(services.accounts.submit(subject, *commands("elsewhere", taken)))
        # A change of the password has the account's turn, so it comes first.
        await eventually(lambda: superseding.done() or call == "change the password")
        for each in (ada.own.session_id, ada.other.session_id):
            services.sessions.turns.give(each)
        services.executions.turns.give(ada.execution_id)
        succeeded, said = await calling
        (outcome,) = await asyncio.gather(superseding, return_exceptions=True)
        if isinstance(outcome, TransitionRefused):
            assert (call, end, succeeded) == ("change the password", "another password", True), "the call came first"
            return
        assert not isinstance(outcome, BaseException)
        assert outcome.receipt is not None
        own = {
            record.transition.event
            for record in await ada.records()
            if record.transition.actor == subject and record.position > outcome.receipt.position
        }
        # A new password that came first ends the older sessions whatever follows.
        assert own <= ({"revoke"} if call == "change the password" and succeeded else set()), said
        assert not succeeded or call in {"a ticket", "change the password"}, said


@pytest.mark.checks("authority_at_append")
@pytest.mark.parametrize("end", [*ENDS, *ACCOUNT_ENDS])
@asynchronous
async def test_a_superseded_credential_deletes_no_account(tmp_path: Path, end: str) -> None:
    async with house(tmp_path) as ada:
        accounts, subject = ada.services.accounts, ada.own.subject or ""
        owner = await accounts.by_id(subject) or pytest.fail("no account")
        await accounts.turns.take(subject)
        if end in ENDS:
            taken: Any = Reauthenticate(subject, "password") if end == "a login" else Revoke("revoked")
            superseding: Coroutine[Any, Any, object] = ada.services.sessions.submit(
                ada.own.session_id, *commands("elsewhere", taken)
            )
        else:
            password = owner.account.password or ""
            taken = ChangePassword(password, "B" * 43) if end == "another password" else ACCOUNT_ENDS[end]()
            superseding = accounts.submit(subject, *commands("elsewhere", taken))
        waiting = accounts.turns._waiting
        before = [] if end in ENDS else [asyncio.ensure_future(superseding)]
        # On the account, the other change comes first; the call, with a still valid credential, waits for its turn.
        await eventually(lambda: len(waiting[subject]) == len(before))
        calling = asyncio.ensure_future(_http("DELETE", "/api/account")(ada))
        await eventually(lambda: len(waiting[subject]) == len(before) + 1)
        if end in ENDS:
            await superseding
        accounts.turns.give(subject)
        await asyncio.gather(*before)
        succeeded, said = await calling
        assert not succeeded, said
        deletes = [each for each in await ada.records() if each.transition.event == "delete"]
        assert [each.transition.actor for each in deletes] == (["elsewhere"] if end == "a delete" else [])


@pytest.mark.checks("authority_at_append")
@asynchronous
async def test_a_browser_of_a_lost_account_replaces_no_session(tmp_path: Path) -> None:
    async with house(tmp_path) as ada:
        sessions, own = ada.services.sessions, ada.own
        shown = Presented(
            by_page=True, access_token=CredentialMissing(""), kept=None, markers={ada.other.session_id: 1}, address=None
        )
        await ada.services.accounts.submit(own.subject or "", *commands("elsewhere", Disable()))
        with pytest.raises(TokenExpired):
            await ada.services.browser_sessions.keep(shown, Recorded(own, []))
        assert not (await sessions.load(ada.other.session_id)).ended
        await ada.services.accounts.submit(own.subject or "", *commands("elsewhere", Enable()))


async def _waits_or_is_done(ada: House, calling: asyncio.Future[tuple[bool, object]], behind: int = 0) -> None:
    """Wait until the call waits for the session's turn, behind that many others, or for another; or is done."""
    turns = (ada.services.sessions.turns, ada.services.executions.turns)
    for _ in range(200):
        if calling.done() or sum(len(each) for door in turns for each in door._waiting.values()) > behind:
            return
        await asyncio.sleep(0.01)
