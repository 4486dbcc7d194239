"""A session that never was, built by the code itself, so that the examples on the pages have the shape of the real ones."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Raw

from interlock.machine.errors import RateLimited
from interlock.machine.execution import commands as execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import GENESIS, Record, StoredRow, chain, parse
from interlock.machine.machine import Command
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import Authenticate, Connect, Create, Data, Policy
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.messages import (
    AcceptedMessage,
    CancelRequest,
    Gap,
    Hello,
    Limits,
    OutcomeMessage,
    PingRequest,
    Pong,
    Progress,
    Refreshed,
    RefreshRequest,
    Refused,
    Resumed,
    ResumeRequest,
    StreamPosition,
    SubmitRequest,
    TransitionMessage,
    encode,
)
from interlock.machine.session.session import Session, evolve
from interlock.machine.session.view import session_view
from interlock.machine.times import rfc3339
from interlock.machine.wire import transition_view
from interlock.server.experience.problems import problem_for
from interlock.server.experience.responses import execution_response
from interlock.server.experience.sockets.requests import UNANSWERED
from interlock.server.experience.transport.websocket import MESSAGE_BYTES
from interlock.server.settings import Settings
from interlock.server.surface.executions import ExecutionData

SESSION_ID: Final = "06h0djg1snu4knbi8t0tdv41e12u2acjqb2g"
SUBJECT: Final = "acc_3q2-7wAAQGmJw0m5bW9uZQ"
_CONNECTION: Final = "con_RSlSMZTaSVS48rx2XknO9g"
_EPOCH: Final = "k3J0v9QxZt1m"
_INTENT: Final = "2f1c3f0e-8d55-4c5c-9b0a-0a3d6c1f9d11"
_EXECUTION: Final = "exe_u1VVUXdDkAVbBqWqXGCQx3lhlyu0hE6LmmiUeqWhGLM"
_BEGIN_MS: Final = 1_769_160_600_000
_STEP_MS: Final = 2_500


@cache
def history() -> tuple[list[StoredRow], Session]:
    """The rows of a session that was created, logged in to and connected, and the session after them."""
    asked: list[Data] = [
        Create(Settings().policy),
        Authenticate(SUBJECT, "password"),
        Connect(_CONNECTION, "node-1"),
    ]
    session = SESSION_MACHINE.absent(SESSION_ID)
    rows: list[StoredRow] = []
    for number, data in enumerate(asked):
        actor = "anonymous" if isinstance(data, Create) else SUBJECT
        transition = SESSION_MACHINE.decide(
            session, Command(f"cmd_{number + 1:022}", actor, data), _BEGIN_MS + number * _STEP_MS
        )
        rows.append(chain(rows[-1].digest if rows else GENESIS, number + 1, transition))
        session = evolve(session, transition)
    return rows, session


def sample_fields() -> dict[str, Any]:
    """Fields for which the OpenAPI document gives no example beside them."""
    return {
        "refresh_token": f"{SESSION_ID}.1.0.sFedaU1mAqLO9BQW_gZDkODd8KZoeQ4vmEqPFDbZqRM",
        "receipt": msgspec.to_builtins(parse(history()[0][1], MACHINES).receipt),
    }


def sample_session() -> Any:
    """What ``GET /api/session`` answers for it."""
    return msgspec.to_builtins(session_view(history()[1]))


def sample_transition() -> Any:
    """Its last record as the API gives it."""
    return msgspec.to_builtins(transition_view(_last()))


def sample_execution(state: str) -> Any:
    """What the API answers for an execution in ``state``: accepted, running or succeeded."""
    data = ExecutionData("", b"", '{"text":"hello"}', result='{"note_id":7,"text":"hello"}')
    asked: list[execution.Data] = [
        execution.Accept(
            SESSION_ID, SUBJECT, "notes", "notes.create", _INTENT, data.fingerprint, "transactional", "cancel", 30_000
        ),
        execution.Start("node-1"),
        execution.Succeed("node-1", 1, data.committed_result or ""),
    ]
    ran = EXECUTION_MACHINE.absent(execution.execution_id_of(SUBJECT, _INTENT))
    for number, command in enumerate(asked):
        step = Command(f"cmd_{number + 1:022}", SUBJECT, command)
        ran = EXECUTION_MACHINE.evolve(ran, EXECUTION_MACHINE.decide(ran, step, _BEGIN_MS + number * _STEP_MS))
        if ran.state == state:
            break
    return msgspec.json.decode(msgspec.json.encode(execution_response(ran, data, _last().receipt)))


def sample_messages() -> dict[str, Any]:
    """One message of each kind, by its type."""
    messages = (*_from_server(), *_from_client())
    return {type(message).__name__: msgspec.json.decode(encode(message)) for message in messages}


def _from_server() -> tuple[msgspec.Struct, ...]:
    session = history()[1]
    return (
        Hello(
            _CONNECTION,
            SESSION_ID,
            session.state or "",
            session.version,
            round(Settings().ping_interval_s * 1000),
            Limits(MESSAGE_BYTES, UNANSWERED),
            StreamPosition(_EPOCH, 0),
            _last().receipt,
        ),
        TransitionMessage(*msgspec.structs.astuple(transition_view(_last()))),
        Refreshed(rfc3339(_BEGIN_MS + 300_000)),
        Pong(),
        AcceptedMessage(_INTENT, _EXECUTION, _last().receipt, 1),
        Refused(Raw(msgspec.json.encode(problem_for(RateLimited(1))[0])), intent_id=_INTENT, retry_after_s=1),
        Progress(_EXECUTION, _INTENT, 1, [Raw(b'{"text":"Once "}'), Raw(b'{"text":"upon"}')], 2),
        OutcomeMessage(_EXECUTION, _INTENT, "succeeded", _last().receipt, result=Raw(b'{"words":2}'), offset=3),
        Resumed(_EPOCH, 2),
        Gap(_EPOCH, 118),
    )


def _from_client() -> tuple[msgspec.Struct, ...]:
    return (
        RefreshRequest("eyJhbGciOiJFUzI1NiI…"),
        PingRequest(),
        SubmitRequest(_INTENT, "notes.create", Raw(b'{"text":"hello"}')),
        CancelRequest(_EXECUTION),
        ResumeRequest(_EPOCH, 2),
    )


def sample_policy() -> Policy:
    """What new sessions live under by default."""
    return Settings().policy


def _last() -> Record:
    return parse(history()[0][-1], MACHINES)
