"""The whole tour by the Python client that openapi-python-client generates: python generated_tour.py URL ADMIN CLIENT.

ADMIN is an administrator's secret, CLIENT that of the client `gateway`. mypy checks this file with the generated client.
"""

from __future__ import annotations

import base64
import sys
from http import HTTPStatus
from typing import TypeVar, cast

from interlock_client import AuthenticatedClient, Client
from interlock_client.api.admin import (
    cancel_any_execution,
    delete_account,
    disable_account,
    enable_account,
    end_account_sessions,
    end_any_session,
    get_account,
    get_any_execution,
    get_any_session,
    list_account_transitions,
    list_accounts,
    list_all_executions,
    list_all_sessions,
    list_all_transitions,
    list_any_execution_transitions,
    list_any_session_transitions,
    list_audit_records,
    set_account_groups,
)
from interlock_client.api.auth import (
    change_password,
    exchange_id_token,
    get_own_account,
    login,
    logout,
    refresh,
    register,
)
from interlock_client.api.executions import cancel_execution, get_execution, list_executions, submit_intent
from interlock_client.api.operations import get_liveness, get_readiness
from interlock_client.api.session import create_session, create_ticket, get_session, list_session_transitions
from interlock_client.api.sessions import end_other_sessions, end_session, list_sessions
from interlock_client.api.standards import forward_auth, get_key_set, introspect_token, revoke_token
from interlock_client.models import (
    AccountGroups,
    AccountResponse,
    AccountState,
    AccountView,
    AdminAccountView,
    AdminExecutionView,
    AdminSessionView,
    Credentials,
    Effects,
    EndedAccountResponse,
    EndedResponse,
    EndReason,
    ErrandsNothing,
    ErrandsSaid,
    ErrandsSayIntent,
    ErrandsStaffIntent,
    ErrandsText,
    ErrandsWaitIntent,
    Event,
    ExecutionReason,
    ExecutionResponse,
    ExecutionResponseResultType0,
    ExecutionState,
    HealthResponse,
    IdTokenExchange,
    IntrospectionResponse,
    KeySetResponse,
    PasswordChange,
    Problem,
    ProblemType,
    Recovery,
    RefreshBody,
    SessionState,
    SessionView,
    State,
    TicketResponse,
    TokenForm,
    TokenResponse,
)
from interlock_client.types import UNSET, Response, Unset
from websockets.sync.client import connect
from websockets.typing import Subprotocol

T = TypeVar("T")

URL, ADMIN, GATEWAY = sys.argv[1:]
ADA = Credentials("python@example.org", "correct horse battery staple")
OTHER_PASSWORD = "incorrect donkey battery staple"

# The generator requires an AuthenticatedClient wherever a credential may be sent; without one, a Client works.
anybody = cast("AuthenticatedClient", Client(URL, raise_on_unexpected_status=True))
admin = AuthenticatedClient(URL, ADMIN, raise_on_unexpected_status=True)
gateway = AuthenticatedClient(
    URL, base64.b64encode(f"gateway:{GATEWAY}".encode()).decode(), prefix="Basic", raise_on_unexpected_status=True
)


def holder(tokens: TokenResponse) -> AuthenticatedClient:
    return AuthenticatedClient(URL, tokens.access_token, raise_on_unexpected_status=True)


def good(kind: type[T], response: Response[Problem | T]) -> T:
    assert isinstance(response.parsed, kind), response
    assert response.headers["x-request-id"]
    return response.parsed


def refused(response: Response[Problem | T], problem: ProblemType, recovery: Recovery) -> Problem:
    assert isinstance(response.parsed, Problem), response
    assert (response.parsed.type_, response.parsed.recovery) == (problem, recovery), response.parsed
    return response.parsed


# A session first, then a login on it.
tokens = good(TokenResponse, create_session.sync_detailed(client=anybody))
assert tokens.state is SessionState.CREATED
account = good(AccountResponse, register.sync_detailed(client=anybody, body=ADA))
assert account.created_at.tzinfo is not None
refused(register.sync_detailed(client=anybody, body=ADA), ProblemType.ACCOUNT_EXISTS, Recovery.ASK_USER)
refused(
    login.sync_detailed(client=anybody, body=Credentials(ADA.email, "wrong")),
    ProblemType.CREDENTIAL_INVALID,
    Recovery.LOG_IN,
)
anonymous = holder(tokens)
refused(create_ticket.sync_detailed(client=anonymous), ProblemType.LOGIN_REQUIRED, Recovery.LOG_IN)
tokens = good(TokenResponse, login.sync_detailed(client=anonymous, body=ADA))
refused(get_session.sync_detailed(client=anonymous), ProblemType.TOKEN_EXPIRED, Recovery.REFRESH)
mine = holder(tokens)
session = good(SessionView, get_session.sync_detailed(client=mine))
assert (session.state, session.subject, session.reason) == (SessionState.AUTHENTICATED, account.subject, None)

# Its tokens continue.
assert isinstance(tokens.refresh_token, str)
tokens = good(TokenResponse, refresh.sync_detailed(client=anybody, body=RefreshBody(tokens.refresh_token)))
mine = holder(tokens)
refused(refresh.sync_detailed(client=anybody), ProblemType.CREDENTIAL_MISSING, Recovery.LOG_IN)

# A WebSocket.
ticket = good(TicketResponse, create_ticket.sync_detailed(client=mine))
offered = [Subprotocol("interlock.v1"), Subprotocol(f"ticket.{ticket.ticket}")]
with connect(f"ws{URL.removeprefix('http')}/api/connect", subprotocols=offered) as socket:
    assert '"hello"' in str(socket.recv())
    assert good(SessionView, get_session.sync_detailed(client=mine)).state is SessionState.CONNECTED

# All sessions of the account.
elsewhere = good(TokenResponse, login.sync_detailed(client=anybody, body=ADA))
listed = list_sessions.sync(client=mine, limit=10)
assert isinstance(listed, list)
assert {each.session_id for each in listed} == {tokens.session_id, elsewhere.session_id}
first_page = list_sessions.sync_detailed(client=mine, limit=1)
assert 'rel="next"' in first_page.headers["link"]
ended = end_session.sync_detailed(elsewhere.session_id, client=mine)
assert (ended.status_code, ended.parsed) == (HTTPStatus.NO_CONTENT, None)
assert ended.headers["interlock-receipt"]
over = refused(get_session.sync_detailed(client=holder(elsewhere)), ProblemType.SESSION_ENDED, Recovery.START_SESSION)
assert over.reason is EndReason.REVOKED
assert good(EndedResponse, end_other_sessions.sync_detailed(client=mine)).ended == 0
refused(end_session.sync_detailed("nobody", client=mine), ProblemType.NOT_FOUND, Recovery.FIX_REQUEST)
steps = list_session_transitions.sync(client=mine)
assert isinstance(steps, list)
assert [step.event for step in steps[:2]] == [Event.CREATE, Event.AUTHENTICATE]
assert steps[0].target is State.CREATED

# Intents: each has a type of its own.
assert good(AccountView, get_own_account.sync_detailed(client=mine)).groups == []
say = ErrandsSayIntent("first", "errands.say", ErrandsText("ab", times=2))
begun = good(ExecutionResponse, submit_intent.sync_detailed(client=mine, body=say))
assert begun.state is ExecutionState.ACCEPTED
assert begun.accepted_at.tzinfo is not None
done = begun
while done.state in {ExecutionState.ACCEPTED, ExecutionState.RUNNING}:
    done = good(ExecutionResponse, get_execution.sync_detailed(begun.execution_id, client=mine))
assert (done.state, done.reason, done.error) == (ExecutionState.SUCCEEDED, None, UNSET)
assert isinstance(done.result, ExecutionResponseResultType0)
assert ErrandsSaid.from_dict(done.result.to_dict()) == ErrandsSaid("abab", 1)
repeated = submit_intent.sync_detailed(client=mine, body=say)
assert (repeated.status_code, good(ExecutionResponse, repeated)) == (HTTPStatus.OK, done)
other = ErrandsSayIntent("first", "errands.say", ErrandsText("x"))
refused(submit_intent.sync_detailed(client=mine, body=other), ProblemType.INTENT_REUSED, Recovery.FIX_REQUEST)
long = ErrandsSayIntent("long", "errands.say", ErrandsText("x" * 101))
problem = refused(
    submit_intent.sync_detailed(client=mine, body=long), ProblemType.PARAMETERS_REFUSED, Recovery.FIX_REQUEST
)
assert isinstance(problem.errors, list)
assert [each.field for each in problem.errors] == ["parameters.text"]
staff = ErrandsStaffIntent("staff", "errands.staff", ErrandsNothing())
refused(submit_intent.sync_detailed(client=mine, body=staff), ProblemType.ROLE_MISSING, Recovery.ASK_ADMINISTRATOR)
wait = ErrandsWaitIntent("wait", "errands.wait", ErrandsNothing())
waiting = good(ExecutionResponse, submit_intent.sync_detailed(client=mine, body=wait))
cancelled = good(ExecutionResponse, cancel_execution.sync_detailed(waiting.execution_id, client=mine))
assert (cancelled.state, cancelled.reason) == (ExecutionState.CANCELLED, ExecutionReason.ASKED)
executions = list_executions.sync(client=mine)
assert isinstance(executions, list)
assert [each.execution_id for each in executions] == [waiting.execution_id, begun.execution_id]

# The password.
body = PasswordChange("wrong", OTHER_PASSWORD)
refused(change_password.sync_detailed(client=mine, body=body), ProblemType.PASSWORD_WRONG, Recovery.ASK_USER)
body = PasswordChange(ADA.password, OTHER_PASSWORD)
tokens = good(TokenResponse, change_password.sync_detailed(client=mine, body=body))
mine = holder(tokens)

# Calls of other software.
told = good(IntrospectionResponse, introspect_token.sync_detailed(client=gateway, body=TokenForm(tokens.access_token)))
assert (told.active, told.session_state) == (True, SessionState.AUTHENTICATED)
problem = refused(
    introspect_token.sync_detailed(client=anybody, body=TokenForm("x")),
    ProblemType.CLIENT_AUTHENTICATION_FAILED,
    Recovery.FIX_REQUEST,
)
assert problem.error == "invalid_client"
assert good(EndedResponse, revoke_token.sync_detailed(client=gateway, body=TokenForm("x"))).ended == 0
passes = forward_auth.sync_detailed(client=mine)
assert (passes.status_code, passes.headers["remote-user"]) == (HTTPStatus.OK, account.subject)
assert good(KeySetResponse, get_key_set.sync_detailed(client=anybody)).keys[0]["kty"] == "EC"
assert good(HealthResponse, get_liveness.sync_detailed(client=anybody)).status == "ok"
assert good(HealthResponse, get_readiness.sync_detailed(client=anybody)).status == "ok"
refused(
    exchange_id_token.sync_detailed(client=anybody, body=IdTokenExchange("x")),
    ProblemType.CREDENTIAL_INVALID,
    Recovery.LOG_IN,
)

# The end.
assert logout.sync_detailed(client=mine).status_code == HTTPStatus.NO_CONTENT
over = refused(get_session.sync_detailed(client=mine), ProblemType.SESSION_ENDED, Recovery.START_SESSION)
assert over.reason is EndReason.LOGOUT

# Administrators.
refused(
    get_account.sync_detailed(account.subject, client=mine),
    ProblemType.ADMIN_CREDENTIAL_INVALID,
    Recovery.ASK_ADMINISTRATOR,
)
found = list_accounts.sync(client=admin, email=ADA.email)
assert isinstance(found, list)
assert [each.subject for each in found] == [account.subject]
view = good(
    AdminAccountView, set_account_groups.sync_detailed(account.subject, client=admin, body=AccountGroups(["staff"]))
)
assert view.groups == ["staff"]
sessions = list_all_sessions.sync(
    client=admin,
    state=SessionState.EXPIRED,
    reason=EndReason.LOGOUT,
    subject=account.subject,
    created_from=account.created_at.replace(year=2020),
)
assert isinstance(sessions, list)
assert [each.session_id for each in sessions] == [tokens.session_id]
assert good(AdminSessionView, get_any_session.sync_detailed(tokens.session_id, client=admin)).reason is EndReason.LOGOUT
again = good(TokenResponse, login.sync_detailed(client=anybody, body=Credentials(ADA.email, OTHER_PASSWORD)))
assert end_any_session.sync_detailed(again.session_id, client=admin).status_code == HTTPStatus.NO_CONTENT
history = list_any_session_transitions.sync(again.session_id, client=admin)
assert isinstance(history, list)
assert history[-1].actor.startswith("admin:")
again = good(TokenResponse, login.sync_detailed(client=anybody, body=Credentials(ADA.email, OTHER_PASSWORD)))
assert good(EndedResponse, end_account_sessions.sync_detailed(account.subject, client=admin)).ended == 1
disabled = good(EndedAccountResponse, disable_account.sync_detailed(account.subject, client=admin))
assert (disabled.state, disabled.ended) == (AccountState.DISABLED, 0)
assert not isinstance(disabled.receipt, Unset)
refused(
    login.sync_detailed(client=anybody, body=Credentials(ADA.email, OTHER_PASSWORD)),
    ProblemType.ACCOUNT_DISABLED,
    Recovery.ASK_ADMINISTRATOR,
)
assert good(AdminAccountView, enable_account.sync_detailed(account.subject, client=admin)).disabled_at is None
log = list_all_transitions.sync(client=admin, limit=1000)
assert isinstance(log, list)
assert {step.instance_id for step in log} >= {tokens.session_id, again.session_id}
acts = list_audit_records.sync(client=admin)
assert isinstance(acts, list)
assert [act.event for act in acts][-2:] == [Event.DISABLE, Event.ENABLE]
own = list_account_transitions.sync(account.subject, client=admin)
assert isinstance(own, list)
assert [step.event for step in own][:2] == [Event.REGISTER, Event.CHANGE_PASSWORD]
runs = list_all_executions.sync(client=admin, state=ExecutionState.SUCCEEDED, subject=account.subject)
assert isinstance(runs, list)
assert [(run.execution_id, run.effects) for run in runs] == [(begun.execution_id, Effects.IDEMPOTENT)]
run = good(AdminExecutionView, get_any_execution.sync_detailed(begun.execution_id, client=admin))
assert (run.realm, run.node, run.parent) == ("errands", None, None)
late = good(AdminExecutionView, cancel_any_execution.sync_detailed(begun.execution_id, client=admin))
assert late == run, "it had ended"
steps = list_any_execution_transitions.sync(begun.execution_id, client=admin)
assert isinstance(steps, list)
assert [step.event for step in steps] == [Event.ACCEPT, Event.START, Event.SUCCEED]
deleted = good(EndedAccountResponse, delete_account.sync_detailed(account.subject, client=admin))
assert deleted.state is AccountState.DELETED
print("the whole tour")  # noqa: T201  # for its user
